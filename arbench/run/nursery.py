"""A process that imports torch and the tasks once and forks workers, so that a fresh worker starts at once (Linux).

Started as `python -c START FD PARENT`. Messages are JSON objects:

    to the nursery     {"do": "fork", id, log, environment}, then the worker's end of its pipe as a file descriptor
                       {"do": "signal", id, number}
                       the end of the pipe means: exit, and every worker with it
    from the nursery   {"id", "status"}              a worker has ended: its exit status, a signal as a negative number
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ..spec.task import tasks
from .wire import receive, send
from .worker import point_output_at, serve

BLAS_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a batch system sends to all of us: the supervisor decides, workers then finish their units."""

START = """import sys
from arbench.run.orphan import die_with
die_with(int(sys.argv[2]))
from arbench.run.nursery import main
main(int(sys.argv[1]))
"""
"""What the process runs: it ends with us from the first, not only when all that takes seconds is imported."""

# ---- the supervisor's side -------------------------------------------------------------------------------------------


class Nursery:
    """Forks workers. The process starts with the first of them and ends with `close`, or with us."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._ended: dict[int, int] = {}
        self._count = 0

    def fork(self, pipe: Connection, log: Path, environment: Mapping[str, str]) -> Forked:
        """A worker that is served through `pipe` and prints to `log`, in a session and an environment of its own."""
        if self._process is None or self._process.poll() is not None:
            self._start(log, environment)
        assert self._process is not None
        assert self._pipe is not None
        self._count += 1
        with suppress(OSError):  # it has died: `status` will tell
            send(
                self._pipe,
                {"do": "fork", "id": self._count, "log": str(log.absolute()), "environment": dict(environment)},
            )
            reduction.send_handle(self._pipe, pipe.fileno(), self._process.pid)
        return Forked(self, self._count)

    def _start(self, log: Path, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                # libraries that start threads when imported must not: a process with threads cannot fork safely
                env={**environment, **dict.fromkeys(BLAS_THREADS, "1")},
            )
        theirs.close()
        self._pipe = Connection(ours.detach())

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
        return status or -signal.SIGKILL

    def signal(self, number: int, which: signal.Signals) -> None:
        assert self._pipe is not None
        with suppress(OSError):
            send(self._pipe, {"do": "signal", "id": number, "number": int(which)})

    def close(self) -> None:
        """Ends the process; workers that still live are killed."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.wait()
        self._process = self._pipe = None


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


# ---- the process -----------------------------------------------------------------------------------------------------


def main(descriptor: int) -> None:
    for which in IGNORED:
        signal.signal(which, signal.SIG_IGN)
    pipe = Connection(descriptor)
    for name in (
        "torch",
        "scipy.linalg.blas",
        "arbench.tasks.context",
        *(definition.work for definition in tasks().values()),
    ):
        importlib.import_module(name.partition(":")[0])
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that the wakeup descriptor is written to
    living: dict[int, int] = {}
    while True:
        ready = wait([pipe, woken])
        if woken in ready:
            os.read(woken, 4096)
        for number, status in _ended(living):
            send(pipe, {"id": number, "status": status})
        if pipe in ready:
            try:
                order = receive(pipe)
                if order["do"] == "fork":
                    living[_fork(pipe, order)] = order["id"]
                else:
                    _signal(living, order["id"], order["number"])
            except (EOFError, OSError):
                os._exit(0)


def _ended(living: dict[int, int]) -> list[tuple[int, int]]:
    """Number and exit status of each worker that has ended; they leave `living`."""
    ended = []
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            break
        ended.append((living.pop(pid), os.waitstatus_to_exitcode(status)))
    return ended


def _signal(living: Mapping[int, int], number: int, which: int) -> None:
    for pid, each in living.items():
        if each == number:
            os.kill(pid, which)


def _fork(pipe: Connection, order: Mapping[str, Any]) -> int:
    """The process id of a new worker."""
    descriptor = reduction.recv_handle(pipe)
    nursery = os.getpid()
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid
    try:  # nothing may go back into the nursery's loop
        pipe.close()
        signal.set_wakeup_fd(-1)
        for which in (*IGNORED, signal.SIGCHLD):
            signal.signal(which, signal.SIG_DFL)
        os.setsid()
        os.environ.clear()
        os.environ.update(order["environment"])
        point_output_at(Path(order["log"]))
        serve(descriptor, nursery)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)
