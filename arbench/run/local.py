"""Workers on this machine: processes that a nursery forks, or that a task wants from scratch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

from ..errors import StoreError
from ..spec.result import Outcome
from .executor import TICK, Job, Message, Slot, Worker, own_process
from .nursery import Nursery
from .pool import WorkerProcess, death, end_all

TIMING = ("scipy.stats",)
"""What cells that are timed or metered import on the way: once in the nursery, and not by each of their workers."""


class LocalExecutor:
    """The `Executor` of one machine. `slots` are for quality cells, `alone` is for a speed or memory cell; `kill_after`
    are the seconds between SIGTERM and SIGKILL; `nursery` is one that was begun ahead, and is ended with this."""

    def __init__(
        self,
        folder: Path,
        weights: Mapping[str, str],
        places: Sequence[Slot],
        alone: Slot,
        kill_after: float,
        nursery: Nursery | None = None,
    ) -> None:
        self._folder = folder
        self._weights = weights
        self._places = places
        self._alone = alone
        self._kill_after = kill_after
        self._workers: list[WorkerProcess] = []
        self._spare: tuple[str, WorkerProcess] | None = None
        """A worker that was begun ahead, and for which cell."""
        # elsewhere, forking a process that has loaded system frameworks is not safe
        self._nursery = nursery or (Nursery() if sys.platform == "linux" else None)

    @property
    def workers(self) -> Sequence[WorkerProcess]:
        return self._workers

    def slots(self, *, alone: bool) -> Sequence[Slot]:
        return [self._alone] if alone else self._places

    def start(self, slot: Slot, job: Job) -> Worker:
        worker = self._waiting(slot, job) or self._new(slot, job)
        self._workers.append(worker)
        return worker

    def ahead(self, job: Job) -> None:
        if self._spare is None and own_process(job.planned):
            self._spare = job.cell_id, self._new(self._alone, job)

    def _waiting(self, slot: Slot, job: Job) -> WorkerProcess | None:
        """The worker that was begun ahead, if it is for this job; one for another is ended."""
        if self._spare is None:
            return None
        (cell_id, worker), self._spare = self._spare, None
        if (cell_id, worker.slot) == (job.cell_id, slot):
            worker.begin_watch()
            return worker
        end_all([worker], self._kill_after)
        return None

    def _new(self, slot: Slot, job: Job) -> WorkerProcess:
        log = self._folder / "cells" / job.cell_id / "log.txt"
        nursery = None if own_process(job.planned) else self._nursery
        try:
            if nursery is not None and job.planned.exclusive:
                nursery.load(TIMING)
            return WorkerProcess(slot, self._folder, self._weights, log, nursery)
        except OSError as error:
            raise StoreError(
                "cannot start a worker process",
                f"{error.strerror or error} ({log})",
                f"make room, then: arbench resume {self._folder}",
            ) from error

    def give(self, worker: Worker, job: Job, *, units: Sequence[str], started: str, seconds: float) -> None:
        cast(WorkerProcess, worker).give(job, units=units, started=started, seconds=seconds)

    def events(self, wake: int) -> list[tuple[Worker, Message]]:
        busy = [worker for worker in self._workers if worker.job is not None]
        heard: list[tuple[Worker, Message]] = []
        for ready in wait([*(worker.pipe for worker in busy), wake], TICK):
            if isinstance(ready, Connection):
                worker = next(each for each in busy if each.pipe is ready)
                heard.append((worker, worker.hear() or self._ended(worker)))
        for worker in self._workers:
            worker.tick()
            if worker.job is not None and worker.ending is None:
                worker.look()
        return heard

    def _ended(self, worker: WorkerProcess) -> Message:
        outcome, reason = death(worker.reap(), worker.killed_for_memory())
        self._workers.remove(worker)
        return {"kind": "ended", "outcome": outcome, "reason": reason}

    def terminate(self, worker: Worker, why: Outcome) -> None:
        cast(WorkerProcess, worker).terminate(why, self._kill_after)

    def end(self, workers: Sequence[Worker]) -> None:
        ending = [worker for worker in self._workers if worker in workers]
        self._workers = [worker for worker in self._workers if worker not in ending]
        end_all(ending, self._kill_after)

    def close(self) -> None:
        if self._spare is not None:
            end_all([self._spare[1]], self._kill_after)
            self._spare = None
        if self._nursery is not None:
            self._nursery.close()
