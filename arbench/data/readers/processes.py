"""Processes that decode pictures by the chunk, for a device that wants more than the threads of one process can give.

Python's interpreter runs one thread at a time, and each picture needs it some ten times; threads that decode, and the
one that feeds the device, wait for each other (docs/score.md has the rates). Here it is held once a chunk. Pixels come
through memory that both processes map, which has no name and is gone with them.

A picture that a process could not do (damaged, too large, the process died) is decoded by the thread that asked: what
is refused, and how much memory is taken, is the same with processes and without.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import queue
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from .decode import Decoded
from .decode_process import MOST_PIXELS
from .ready import Ready, Treat

CHUNK = 8
"""Pictures that a process is given at a time."""
MEMORY = CHUNK * 3 * MOST_PIXELS
"""Bytes for the pixels of a chunk; those that are never written take none."""
START = "import sys; from arbench.data.readers.decode_process import main; main(int(sys.argv[1]), int(sys.argv[2]))"
SECONDS_TO_END = 10.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_log = logging.getLogger(__name__)


def possible() -> bool:
    """Whether this system has memory without a name (Linux)."""
    return hasattr(os, "memfd_create")


class DecodeProcesses:
    """`count` processes; each call takes one that is idle. They end with `close`, or with us."""

    def __init__(self, count: int) -> None:
        """Raises OSError if the system gives no more processes or memory."""
        self._all: list[_Process] = []
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        try:
            for _ in range(count):
                self._all.append(_Process())
                self._idle.put(self._all[-1])
        except OSError:
            self.close()
            raise

    def decode(self, jobs: Sequence[Callable[[], Decoded]], treat: Treat | None) -> list[Ready | None]:
        """Pictures of a chunk in its order, None for those that are left to the caller. Runs in any thread."""
        process = self._idle.get()
        try:
            return process.decode(jobs, treat)
        finally:
            self._idle.put(process)

    def close(self) -> None:
        for each in self._all:
            each.hang_up()
        for each in self._all:
            each.end()


class _Process:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        number = os.memfd_create("pixels")
        try:
            os.ftruncate(number, MEMORY)
            self._memory = mmap.mmap(number, MEMORY)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-W", "ignore", "-c", START, str(theirs.fileno()), str(number)],
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # an interrupt is for us, who end them
                    pass_fds=(theirs.fileno(), number),
                    env={**os.environ, **ONE_THREAD, "PYTHONPATH": _search_path()},
                )
        finally:
            os.close(number)
        self._pipe = Connection(ours.detach())
        self._lost = False

    def decode(self, jobs: Sequence[Callable[[], Decoded]], treat: Treat | None) -> list[Ready | None]:
        if self._lost:
            return [None] * len(jobs)
        try:
            self._pipe.send((treat, list(jobs)))
            answers = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            self._lost = True
            _log.warning(
                "a process that decodes images has died (exit status %s); threads decode in its place",
                self._process.wait(),
            )
            return [None] * len(jobs)
        found: list[Ready | None] = []
        used = 0
        for answer in answers:
            if answer is None:
                found.append(None)
                continue
            shape, converted, digest = answer
            size = int(np.prod(shape))
            image = np.frombuffer(self._memory, np.uint8, size, used).reshape(shape).copy()
            used += size
            found.append(Ready(image, tuple(converted), digest))
        return found

    def hang_up(self) -> None:
        self._pipe.close()

    def end(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS_TO_END)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._memory.close()


def _search_path() -> str:
    return os.pathsep.join(str(Path(entry or ".").absolute()) for entry in sys.path)
