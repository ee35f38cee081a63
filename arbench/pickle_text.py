"""What a pickle claims, read from its opcodes before any unpickler allocates for it."""

from __future__ import annotations

import pickletools


def check_pickle(data: bytes) -> None:
    """Raises ValueError for a pickle that is cut short, or whose table of memos is longer than itself."""
    for opcode, argument, _ in pickletools.genops(data):
        # the C unpickler makes its table as long as the highest place that is named
        if "PUT" in opcode.name and isinstance(argument, int) and argument > len(data):
            raise ValueError(f"place {argument} in a table of memos, in {len(data)} bytes")
