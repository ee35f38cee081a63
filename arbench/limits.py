"""The one bound on what a file may ask memory for, checked against its header before anything is allocated.

A few hundred bytes can stand for gigabytes: a picture of zeros, an array in a zip, a list of lists of one YAML anchor.
Everything that is read whole (a picture, a row of an array, an array of statistics, a header, a suite) stays below
`ARBENCH_MAX_BYTES`, 256 MiB if it is not set: 67 million pixels, or a covariance of 5792 dimensions in float64.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from .errors import InputError, UsageError

VARIABLE = "ARBENCH_MAX_BYTES"
DEFAULT = 1 << 28
BYTES_PER_PIXEL = 4
"""As Pillow holds a picture of colours."""
BYTES_PER_NODE = 1 << 10
"""About what a value of a YAML file takes, with its place in the file."""
IN_FLIGHT = 2
"""Bounds that the pictures which are decoded ahead may take together."""


def max_bytes() -> int:
    """The bound. Raises `UsageError` if the variable is not a number of bytes."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return DEFAULT
    try:
        bound = int(text)
    except ValueError:
        bound = 0
    if bound < 1:
        raise UsageError(f"{VARIABLE}={text!r} is not a number of bytes", "", f"for instance {VARIABLE}={2 * DEFAULT}")
    return bound


def max_pixels() -> int:
    """Of one picture."""
    return max_bytes() // BYTES_PER_PIXEL


def max_nodes() -> int:
    """Values in a YAML file, with what its aliases stand for written out."""
    return max(1000, max_bytes() // BYTES_PER_NODE)


class Count:
    """Of values, where one that is written once may stand for many. Raises ValueError beyond `max_nodes`."""

    def __init__(self) -> None:
        self._left = max_nodes()

    def one_more(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it stands for more than {max_nodes()} values ({VARIABLE} / {BYTES_PER_NODE})")


def refuse_header(what: str, size: int) -> None:
    """Raises `InputError` for a header of a format that has no need of long ones: a 256th of the bound is enough."""
    if size > (bound := max(1 << 16, max_bytes() // 256)):
        why = f"it claims {size} bytes; the bound is {bound} ({VARIABLE} / 256)"
        raise InputError(f"{what} is too large", why, how_to_raise(size * 256))


def how_to_raise(needed: int) -> str:
    """The next step for what would take `needed` bytes."""
    return f"if you trust the file: {VARIABLE}={max(needed, DEFAULT)} arbench ..."


def refuse_beyond(what: str, needed: int) -> None:
    """Raises `InputError` if `needed` bytes are more than the bound."""
    if needed > (bound := max_bytes()):
        why = f"it would take {needed} bytes of memory; the bound is {bound} ({VARIABLE})"
        raise InputError(f"{what} is too large", why, how_to_raise(needed))


def refuse_inflating(path: Path) -> None:
    """Raises `InputError` for a zip whose members are, together, beyond both the bound and the bytes of the file.

    For archives that are read whole, by torch for instance: one of stored members is never larger than its file. What
    is not a zip, or is a damaged one, is for its reader to tell.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            needed = sum(info.file_size for info in archive.infolist())
        room = path.stat().st_size
    except (OSError, ValueError, RuntimeError, EOFError, LookupError, zipfile.BadZipFile):
        return
    if needed > room:
        refuse_beyond(str(path), needed)
