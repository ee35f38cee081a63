"""What runs units for the supervisor: workers in places, given jobs, listened to, ended; wherever they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..spec.result import Outcome
from ..spec.task import tasks
from ..spec.unit import Unit
from .oom import with_batch
from .plan import PlannedCell

TICK = 0.5
"""Seconds between two looks at deadlines and the display, when no worker says anything."""

MAX_CPU_WORKERS = 8
"""On one machine."""
EVALUATIONS = 4
"""Cells whose numbers share the cores of a CPU: a quarter of them for one, while other workers sample."""

Message = dict[str, Any]
"""What a worker says (see `arbench.run.worker`), or what became of it:

    {"kind": "ended", outcome, reason}          it has ended by itself
    {"kind": "lost", node, reason, counts}      its machine is gone; `counts` is False where the job had not begun

Of a worker on another machine, each has the `node`.
"""


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
    batch: int | None = None
    """At which batch, where memory ran out at that of the cell."""

    @property
    def cell_id(self) -> str:
        return self.planned.cell.result_id

    def order(self, units: Sequence[str] = (), started: str = "", seconds: float = 0.0) -> Message:
        """What a worker is told. For finishing a cell: its units' names, and when and how long they were worked on."""
        cell = with_batch(self.planned.cell, self.batch).plain()
        if self.unit is not None:
            return {"do": "unit", "cell": cell, "unit": self.unit.plain()}
        more = {"units": list(units), "started": started, "seconds": seconds, "halved": self.batch is not None}
        return {"do": "finish", "cell": cell, **more}


class Worker:
    """A worker as the supervisor sees it: `job` is what it is at, `heard` when it last said anything (monotonic
    seconds), `worked` when it was last seen at work."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.job: Job | None = None
        self.done = 0
        """Samples or calls of the present job that it has reported."""
        self.heard = self.worked = time.monotonic()
        self.ready = False
        """Whether its process has come up."""
        self.ending: Outcome | None = None
        """Why we are ending it, once we are."""
        self.silence = ""
        """How long it had said nothing at that time, and whether it was at work."""

    def take(self, job: Job) -> None:
        """Is at `job` from now on."""
        self.job, self.done = job, 0
        self.heard = self.worked = time.monotonic()

    def blame(self, why: Outcome) -> None:
        """Is being ended for `why` from now on."""
        self.ending = why
        silent = time.monotonic() - self.heard
        did = "though it was at work" if self.worked - self.heard > silent / 2 else "and it did no work"
        self.silence = f"nothing heard for {silent:.0f} s, {did}"


def own_process(planned: PlannedCell) -> bool:
    """Whether its worker is started from scratch: it meters its process, and is not timed."""
    return tasks()[planned.cell.task.task].own_process


class Executor(Protocol):
    """Where the units of a run are done. Workers are fresh processes; what they make is in the run's folder, whole,
    before `events` tells of it. Errors: `StoreError` where the disk refuses."""

    @property
    def workers(self) -> Sequence[Worker]:
        """Those that were started and have not ended."""
        ...

    def slots(self, *, alone: bool) -> Sequence[Slot]:
        """Places for workers at this moment, equal ones as often as there are. `alone`: the place of the one worker
        that measures speed or memory."""
        ...

    def start(self, slot: Slot, job: Job) -> Worker:
        """A new worker in `slot`, whose first job will be `job`."""
        ...

    def ahead(self, job: Job) -> None:
        """Begins a worker of its own process for `job`, which will come in the place that measures; or does nothing."""
        ...

    def give(self, worker: Worker, job: Job, *, units: Sequence[str], started: str, seconds: float) -> None:
        """Sends a job to an idle worker; the rest as for `Job.order`."""
        ...

    def events(self, wake: int) -> list[tuple[Worker, Message]]:
        """What workers with a job have said, once any has, or the descriptor `wake` is readable, or after `TICK`."""
        ...

    def terminate(self, worker: Worker, why: Outcome) -> None:
        """Asks a worker to end, killing it if it does not: `events` tells when it has ended."""
        ...

    def end(self, workers: Sequence[Worker]) -> None:
        """Ends workers, busy or not, and returns when they have ended."""
        ...

    def close(self) -> None:
        """No workers are started after this."""
        ...
