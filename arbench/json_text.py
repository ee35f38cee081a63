"""JSON of files that others may have written: what is wrong with it is a ValueError, its texts can be written."""

from __future__ import annotations

import json
import re
from typing import Any

_LONE = re.compile(r"[\ud800-\udfff]")


def parse_json(data: bytes | str) -> Any:
    """The value. Half of a surrogate pair, which no file or terminal takes, becomes its escape."""
    try:
        value = json.loads(data)
        return _writable(value) if "\\ud" in str(data).lower() else value
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def writable(text: str) -> str:
    """`text`, perhaps a name in bytes that are not UTF-8, with escapes for what no file can hold as text."""
    return _LONE.sub(lambda found: ascii(found[0])[1:-1], text)


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return writable(value)
    if isinstance(value, list):
        return [_writable(item) for item in value]
    if isinstance(value, dict):
        return {_writable(key): _writable(item) for key, item in value.items()}
    return value
