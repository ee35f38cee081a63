"""Ctrl-C and SIGTERM as a flag and a wake-up, so that the supervisor stops where it is safe to."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Self


class Stop:
    """`requests` counts the signals so far; `wake` is a file descriptor that becomes readable with each."""

    def __init__(self) -> None:
        self.requests = 0
        self.wake, self._write = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self._write, False)
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.wake)
        os.close(self._write)

    def drain(self) -> None:
        try:
            os.read(self.wake, 64)
        except BlockingIOError:
            return

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requests += 1
        try:
            os.write(self._write, b"!")
        except BlockingIOError:
            return  # the pipe is full of wake-ups already
