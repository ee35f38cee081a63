"""Commands on a real terminal of a given width, and in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

from tests import forked

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment() -> dict[str, str]:
    """Without what would tell rich another width or kind of terminal."""
    told = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
    return {**{name: value for name, value in os.environ.items() if name not in told}, "TERM": "xterm"}


def in_pipe(arguments: Sequence[str], where: Path | None = None) -> str:
    done = forked.arbench(*arguments, env=environment(), cwd=where)
    assert not done.returncode, done.stderr
    return done.stdout


def on_terminal(arguments: Sequence[str], columns: int, where: object = None, code: int = 0) -> str:
    """What a terminal of so many columns got, escapes taken out."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "arbench", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment(), cwd=where, start_new_session=True,
    )  # type: ignore[call-overload]  # fmt: skip
    os.close(theirs)
    got = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not piece:
            break
        got += piece
    os.close(ours)
    text = ESCAPES.sub("", got.decode()).replace("\r\n", "\n").replace("\r", "\n")
    assert process.wait() == code, text
    return text
