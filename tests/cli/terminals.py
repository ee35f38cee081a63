"""Commands on a real terminal of a given width, and in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
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


def on_terminal(arguments: Sequence[str], columns: int, where: Path | None = None, code: int = 0) -> str:
    """What a terminal of so many columns got, escapes taken out."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    got = []

    def read() -> None:
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux's way to say that the other side is closed
                return
            if not piece:
                return
            got.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    status = forked.on_terminal(os.ttyname(theirs), *arguments, env=environment(), cwd=where)
    os.close(theirs)
    reader.join()
    os.close(ours)
    text = ESCAPES.sub("", b"".join(got).decode()).replace("\r\n", "\n").replace("\r", "\n")
    assert status == code, text
    return text
