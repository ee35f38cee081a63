"""Standard output as it may be: of another encoding than UTF-8, closed, a full disk, a pipe that nobody reads."""

import errno
import io
import os
import sys
from pathlib import Path

from arbench.errors import INFRASTRUCTURE, OK

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What an error of a full disk has as its number."""


def prepare() -> None:
    """A character that the encoding lacks is written as its escape, as on stderr; what is closed takes everything."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115, it lives as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say_full(error: OSError) -> int:
    """Says that something could not be written because the disk is full. Returns the exit code."""
    print(f"arbench: cannot write: {error.strerror}", file=sys.stderr)
    print("  next: make room; what was finished before is kept", file=sys.stderr)
    return INFRASTRUCTURE


def flushed(code: int) -> int:
    """`code`, or that of a failure if a command that went well cannot write what it has printed."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # else Python tries again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if code == OK and error.errno != errno.EPIPE:
            return say_full(error)
    return code
