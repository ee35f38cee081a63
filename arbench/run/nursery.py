"""Forks workers from a process that imports torch and the tasks once, so that a fresh worker starts at once (Linux).

The process is `python -c START FD PARENT`. Messages are JSON objects:

    to the nursery     {"do": "fork", id, log, environment}, then the worker's end of its pipe as a file descriptor
                       {"do": "import", modules}        of use to all workers from now on
                       {"do": "signal", id, number}
                       the end of the pipe means: exit, and every worker with it
    from the nursery   {"id", "status"}              a worker has ended: its exit status, a signal as a negative number
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from .wire import receive, send

BLAS_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

START = """import sys
from arbench.run.orphan import die_with
die_with(int(sys.argv[2]))
from arbench.run.nursery_process import main
main(int(sys.argv[1]))
"""
"""What the process runs: it ends with us from the first, not only when all that takes seconds is imported."""


def worker_environment(threads: int) -> dict[str, str]:
    """Ours, with the thread counts, and with our module search path, so that a worker imports what we would."""
    environment = dict(os.environ)
    environment.update(dict.fromkeys(BLAS_THREADS, str(threads)))
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry or ".").absolute()) for entry in sys.path)
    return environment


class Nursery:
    """Forks workers. The process starts with `begin` or with the first of them, and ends with `close`, or with us."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._said: IO[bytes] | None = None
        """What the process prints; workers print to their cells' logs."""
        self._log: Path | None = None
        """Of the last worker."""
        self._ended: dict[int, int] = {}
        self._count = 0

    def begin(self, environment: Mapping[str, str]) -> None:
        """Starts the process unless it lives: what it imports takes seconds, in which we can do something else."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            fate = self._fate()
            self._ended = {number: self._ended.get(number, fate) for number in range(1, self._count + 1)}
            self.close()
        ours, theirs = socket.socketpair()
        said = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the process
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                # libraries that start threads when imported must not: a process with threads cannot fork safely
                env={**environment, **dict.fromkeys(BLAS_THREADS, "1")},
            )
        self._process, self._pipe, self._said = process, Connection(ours.detach()), said

    def fork(self, pipe: Connection, log: Path, environment: Mapping[str, str]) -> Forked:
        """A worker that is served through `pipe` and prints to `log`, in a session and an environment of its own."""
        self.begin(environment)
        assert self._process is not None
        assert self._pipe is not None
        self._count += 1
        self._log = log
        with suppress(OSError):  # it has died: `status` will tell
            send(
                self._pipe,
                {"do": "fork", "id": self._count, "log": str(log.absolute()), "environment": dict(environment)},
            )
            reduction.send_handle(self._pipe, pipe.fileno(), self._process.pid)
        return Forked(self, self._count)

    def load(self, modules: Sequence[str]) -> None:
        """Has them imported before the next worker is forked; nothing is done twice."""
        self.begin(worker_environment(1))
        assert self._pipe is not None
        with suppress(OSError):
            send(self._pipe, {"do": "import", "modules": list(modules)})

    def status(self, number: int, timeout: float) -> int | None:
        """The exit status of a worker, None if it has not ended within `timeout` seconds."""
        until = time.monotonic() + timeout
        while number not in self._ended:
            assert self._pipe is not None
            try:
                if not self._pipe.poll(max(until - time.monotonic(), 0.0)):
                    return None
                message = receive(self._pipe)
            except (EOFError, OSError):
                return self._fate()
            self._ended[message["id"]] = message["status"]
        return self._ended[number]

    def _fate(self) -> int:
        """What became of all workers once the nursery is gone: killed with it, or never born."""
        assert self._process is not None
        status = self._process.wait()
        if self._said is not None and self._log is not None:
            self._said.seek(0)
            with suppress(OSError), self._log.open("ab") as log:  # the disk that holds it may be full
                log.write(self._said.read())
            self._said.truncate(0)
        return status or -signal.SIGKILL

    def signal(self, number: int, which: signal.Signals) -> None:
        assert self._pipe is not None
        with suppress(OSError):
            send(self._pipe, {"do": "signal", "id": number, "number": int(which)})

    def close(self) -> None:
        """Ends the process; workers that still live are killed."""
        if self._process is not None and self._pipe is not None and self._said is not None:
            if not self._count:  # it may be importing, and would look at its pipe only then
                self._process.kill()
            self._pipe.close()
            self._process.wait()
            self._said.close()
        self._process = self._pipe = self._said = None


@contextmanager
def ahead(executor: str) -> Iterator[Nursery | None]:
    """A nursery that imports while a run is planned; None where `executor` is another machine's, or cannot fork."""
    if executor != "local" or sys.platform != "linux":
        yield None
        return
    nursery = Nursery()
    try:
        with suppress(OSError):  # the first worker will tell
            nursery.begin(worker_environment(1))
        yield nursery
    finally:
        nursery.close()


class Forked:
    """A worker, with what is used of `subprocess.Popen`."""

    def __init__(self, nursery: Nursery, number: int) -> None:
        self._nursery = nursery
        self._number = number

    def poll(self) -> int | None:
        return self._nursery.status(self._number, 0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        status = self._nursery.status(self._number, float("inf") if timeout is None else timeout)
        if status is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0.0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        self._nursery.signal(self._number, number)
