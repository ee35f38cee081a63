"""A worker process as the supervisor sees it: started, given a job, listened to, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..spec.result import Outcome
from ..spec.unit import Unit
from .nursery import BLAS_THREADS, Forked, Nursery
from .plan import PlannedCell
from .wire import receive, send


@dataclass(frozen=True)
class Slot:
    """Where a worker runs: its device, and how many CPU threads it may use for what is not sampling."""

    device: str
    threads: int


@dataclass(frozen=True)
class Job:
    """A unit of a cell, or (unit None) the finishing of a cell whose units are all on disk."""

    planned: PlannedCell
    unit: Unit | None

    @property
    def cell_id(self) -> str:
        return self.planned.cell.result_id


class WorkerProcess:
    """One worker, from `nursery` if there is one, else a `python -m arbench.run.worker`.

    `job` is what it is at; `heard` when it last said anything.
    """

    def __init__(
        self, slot: Slot, folder: Path, weights: Mapping[str, str], log: Path, nursery: Nursery | None = None
    ) -> None:
        self.slot = slot
        self.job: Job | None = None
        self.done = 0
        """Samples or calls of the present unit that it has reported."""
        self.heard = time.monotonic()
        self.ready = False
        self.ending: Outcome | None = None
        """Why we are ending it, once we are."""
        self._kill_at = float("inf")
        log.parent.mkdir(parents=True, exist_ok=True)
        self.pipe, theirs = Pipe()
        with theirs:
            environment = _environment(slot.threads)
            self._process = (nursery.fork if nursery else _spawn)(theirs, log, environment)
        self._tell(
            do="start", folder=str(folder.absolute()), device=slot.device, threads=slot.threads, weights=dict(weights)
        )

    def give(self, job: Job, *, units: Sequence[str] = (), started: str = "", seconds: float = 0.0) -> None:
        """Sends a job. For finishing a cell: its units' names, and when and how long they were worked on."""
        self.job, self.done, self.heard = job, 0, time.monotonic()
        cell = job.planned.cell.plain()
        if job.unit is not None:
            self._tell(do="unit", cell=cell, unit=job.unit.plain())
        else:
            self._tell(do="finish", cell=cell, units=list(units), started=started, seconds=seconds)

    def hear(self) -> dict[str, Any] | None:
        """The next message, None if the process has ended."""
        self.heard = time.monotonic()
        try:
            return receive(self.pipe)
        except (EOFError, OSError):
            return None

    def _tell(self, **message: Any) -> None:
        with suppress(OSError):  # it has died: the end of the pipe will tell
            send(self.pipe, message)

    def terminate(self, why: Outcome, grace: float) -> None:
        """Asks it to end, and has `tick` kill it after `grace` seconds."""
        self.ending = why
        self._kill_at = time.monotonic() + grace
        self._signal(signal.SIGTERM)

    def tick(self) -> None:
        if time.monotonic() >= self._kill_at:
            self._signal(signal.SIGKILL)

    def reap(self, grace: float = 10.0) -> int:
        """Its exit status once the pipe has closed (a signal as a negative number); killed if it lingers."""
        self.pipe.close()
        try:
            return self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            return self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)


def _spawn(pipe: Connection, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes] | Forked:
    """A worker from scratch: for a task that wants it, and where forking a process that has loaded much is not safe."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "arbench.run.worker", str(pipe.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(pipe.fileno(),),
            start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor alone
            env=environment,
        )


def end_all(workers: Sequence[WorkerProcess], grace: float) -> None:
    """Ends workers, busy or not: the idle ones leave when their pipe closes, the others are signalled."""
    for worker in workers:
        if worker.job is not None:
            worker.terminate(worker.ending or "interrupted", grace)
    until = time.monotonic() + grace
    for worker in workers:
        worker.reap(max(until - time.monotonic(), 0.1))


def death(status: int) -> tuple[Outcome, str]:
    """Outcome and reason for a worker that ended by itself with this exit status."""
    if status == -signal.SIGKILL:
        return "oom", "the worker process was killed from outside, most likely by the kernel's OOM killer"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return "error", f"the worker process crashed ({name}); see log.txt"
    return "error", f"the worker process ended by itself with status {status}; see log.txt"


def _environment(threads: int) -> dict[str, str]:
    """Ours, with the thread counts, and with our module search path, so that a worker imports what we would."""
    environment = dict(os.environ)
    environment.update(dict.fromkeys(BLAS_THREADS, str(threads)))
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry or ".").absolute()) for entry in sys.path)
    return environment
