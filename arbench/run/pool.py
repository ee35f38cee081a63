"""A worker process as the supervisor sees it: started, given a job, listened to, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from ..spec.result import Outcome
from . import oom
from .executor import Job, Message, Slot, Worker
from .nursery import Forked, Nursery, worker_environment
from .wire import receive, send

LOOK_SECONDS = 1.0
"""Between two looks at the processor time of a worker that says nothing."""
WORKING = 0.2
"""Share of a core from which a process is at work: a process that waits for others takes next to none."""


class WorkerProcess(Worker):
    """One worker, from `nursery` if there is one, else a `python -m arbench.run.worker`."""

    def __init__(
        self,
        slot: Slot,
        folder: Path,
        weights: Mapping[str, str],
        log: Path,
        nursery: Nursery | None = None,
        *,
        executor: str = "local",
    ) -> None:
        super().__init__(slot)
        self.pid: int | None = None
        """Once it is ready."""
        self._looked: tuple[float, float] | None = None
        """When we last looked, and the processor seconds that it had taken by then."""
        self._kill_at = float("inf")
        self.begin_watch()
        log.parent.mkdir(parents=True, exist_ok=True)
        self.pipe, theirs = Pipe()
        with theirs:
            environment = worker_environment(slot.threads)
            self._process = (nursery.fork if nursery else _spawn)(theirs, log, environment)
        self.tell(
            {"do": "start", "folder": str(folder.absolute()), "device": slot.device, "threads": slot.threads}
            | {"weights": dict(weights), "executor": executor}
        )

    def begin_watch(self) -> None:
        """From now on the kernel's kills for memory may be this one's."""
        self._kills = oom.kill_counters()

    def give(self, job: Job, *, units: Sequence[str] = (), started: str = "", seconds: float = 0.0) -> None:
        """Sends a job; the rest as for `Job.order`."""
        self.take(job)
        self.order(job.order(units, started, seconds))

    def order(self, message: Message) -> None:
        """Sends what is to be done, as `Job.order` has it; its time begins."""
        self.heard = self.worked = time.monotonic()
        self._looked = None
        self.tell(message)

    def hear(self) -> Message | None:
        """The next message, None if the process has ended."""
        self.heard = self.worked = time.monotonic()
        try:
            message = receive(self.pipe)
        except (EOFError, OSError):
            return None
        if message["kind"] == "ready":
            self.pid, self.ready = message["pid"], True
        return message

    def look(self) -> None:
        """Sees whether it is at work: one call of a generator may take long, and says nothing before it has ended."""
        now = time.monotonic()
        if self.pid is None or now - (self._looked[0] if self._looked else self.heard) < LOOK_SECONDS:
            return
        seconds = _processor_seconds(self.pid)
        if self._looked is not None and seconds - self._looked[1] >= WORKING * (now - self._looked[0]):
            self.worked = now
        self._looked = now, seconds

    def tell(self, message: Message) -> None:
        with suppress(OSError):  # it has died: the end of the pipe will tell
            send(self.pipe, message)

    def terminate(self, why: Outcome, grace: float) -> None:
        """Asks it to end, and has `tick` kill it after `grace` seconds."""
        self.blame(why)
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

    def killed_for_memory(self) -> str:
        """What shows that the kernel has killed a process for memory since `begin_watch`, or ""."""
        return oom.evidence(self._kills, oom.kill_counters())

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)


def _processor_seconds(pid: int) -> float:
    """Seconds of processor time that a process and those that it started have taken, 0 if it has ended."""
    try:
        process = psutil.Process(pid)
        return sum(sum(each.cpu_times()[:4]) for each in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0.0


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


def death(status: int, killed_for_memory: str = "") -> tuple[Outcome, str]:
    """Outcome and reason for a worker that ended by itself with this exit status.

    `killed_for_memory` is what shows that the kernel has killed a process for memory meanwhile, "" for nothing.
    """
    if status == -signal.SIGKILL and killed_for_memory:
        return "oom", f"the worker process was killed by the kernel for memory ({killed_for_memory})"
    if status == -signal.SIGKILL:
        return "error", "the worker process was killed from outside (SIGKILL), and nothing shows that it was for memory"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return "error", f"the worker process crashed ({name}); see log.txt"
    return "error", f"the worker process ended by itself with status {status}; see log.txt"
