"""What the cards of the minis, whose weights ship with arbench, have in common. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Checkpoint

DIGITS = 32
"""Side of the pictures of digits that the minis learn."""


def shipped(file: str) -> dict[str, Any]:
    """Size, licences, data and weight file of a mini, as changes to the card of its system."""
    return {
        "resolution": DIGITS,
        "code_licence": "Apache-2.0",
        "weights_licence": "Apache-2.0",
        "trained_on": "MNIST-5k, training split",
        "checkpoint": Checkpoint(file=file, source="shipped with arbench", packaged=True),
    }
