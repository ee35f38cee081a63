"""Identity of settings and results: a hash over exactly what can change the output."""

from __future__ import annotations

import hashlib
import json
from typing import Any

IDENTITY_VERSION = 1


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; refuses NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def identity(value: Any, prefix: str) -> str:
    """A short name for `value`: `prefix` and 12 hex digits of the blake2b hash of its canonical JSON."""
    text = f"{IDENTITY_VERSION}:{canonical_json(value)}"
    return f"{prefix}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
