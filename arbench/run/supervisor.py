"""The supervisor: hands units to workers, journals what they finish, and turns every failure into an outcome."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import StoreError
from ..journal import Writer
from ..spec.result import Outcome, Result
from ..spec.task import tasks
from ..spec.unit import Unit
from .executor import Executor, Job, Message, Slot, Worker
from .oom import smaller_batch, with_batch
from .plan import longest_seconds
from .replay import CellState, State
from .results import failed_result
from .stop import Stop
from .store import Store

SHOW_SECONDS = 0.1
"""Between two looks of the display at many messages."""
START_SECONDS = 120.0
"""What a worker process may take at least to come up."""
LOSSES = 3
"""So often may a job lose its machine, before it is held against the job."""


@dataclass(frozen=True)
class Limits:
    """Seconds. A unit that says nothing for `factor` times its estimate, at least `silence`, has timed out; one that is
    seen at work, `busy` times later."""

    silence: float = 600.0
    factor: float = 10.0
    busy: float = 20.0
    kill_after: float = 10.0
    """Between SIGTERM and SIGKILL."""
    stop_after: float = 5.0
    """How long running units may take to finish once we are asked to stop."""


class Board(Protocol):
    """Where progress is shown."""

    def started(self, cell: CellState) -> None: ...

    def advanced(self, cell: CellState, partial: int) -> None:
        """`partial` samples are done in the units that are running."""
        ...

    def evaluating(self, cell: CellState, done: int) -> None:
        """All samples are there; `done` images of the reference are."""
        ...

    def finished(self, cell: CellState, result: Result) -> None: ...

    def note(self, text: str) -> None: ...

    def refresh(self) -> None: ...


@dataclass
class _Work:
    """A cell in progress: units to hand out and how many are out."""

    state: CellState
    waiting: deque[Unit] = field(default_factory=deque)
    out: int = 0
    begun: bool = False
    over: bool = False

    @property
    def whole(self) -> bool:
        """Whether it can be finished: none of its units is to be done, or at work."""
        return not self.waiting and not self.out and not self.state.planned.partial


class Supervisor:
    """Runs the cells of `state` that have no result. `on_result` is called with each result, once it is on disk."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        journal: Writer,
        state: State,
        board: Board,
        *,
        on_result: Callable[[CellState, Result], None],
        limits: Limits,
    ) -> None:
        self._store = store
        self._executor = executor
        self._journal = journal
        self._state = state
        self._board = board
        self._on_result = on_result
        self._limits = limits
        self._works: dict[str, _Work] = {}
        self._with_units: deque[_Work] = deque()
        """In plan order, those that may have units to hand out; the others are dropped when they are met."""
        self._whole: deque[_Work] = deque()
        """Those whose units are all on disk."""
        self._losses: Counter[tuple[str, str]] = Counter()
        """Cell and unit ("" for its evaluation) -> how often its machine was lost."""
        self._shown = 0.0
        self._stop_at = float("inf")

    def run(
        self,
        cells: Sequence[CellState],
        stop: Stop,
        *,
        alone: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Runs `cells` on one worker per slot of the executor, and ends the workers; `alone` on the one that measures.
        Calls `meanwhile` once the first workers have jobs. Returns early once `stop` is requested."""
        begun = False
        self._works = {cell.id: self._work(cell) for cell in cells}
        self._with_units = deque(self._works.values())
        self._whole = deque(work for work in self._works.values() if work.whole)
        try:
            while True:
                slots = [] if stop.requests else self._executor.slots(alone=alone)
                self._hand_out(slots)
                busy = any(worker.job is not None for worker in self._executor.workers)
                nowhere = not stop.requests and not slots and self._is_left()
                if not (busy or nowhere) or time.monotonic() >= self._deadline(stop):
                    break
                if busy and not begun:
                    begun = True
                    meanwhile()
                for worker, message in self._executor.events(stop.wake):
                    self._hear(worker, message)
                stop.drain()
                self._check_time()
                if time.monotonic() - self._shown >= SHOW_SECONDS:
                    self._board.refresh()
                    self._shown = time.monotonic()
        finally:
            self._executor.end(self._executor.workers)

    def _work(self, cell: CellState) -> _Work:
        left = [unit for unit in cell.planned.units if unit.name not in cell.units]
        return _Work(cell, deque(left))

    def _deadline(self, stop: Stop) -> float:
        """When to stop waiting for running units: some time after the first request, at once after the second."""
        if stop.requests and self._stop_at == float("inf"):
            self._stop_at = time.monotonic() + self._limits.stop_after
            self._board.note("stopping: running units may finish; once more to stop at once")
        return 0.0 if stop.requests > 1 else self._stop_at

    # ---- handing out ----

    def _hand_out(self, slots: Sequence[Slot]) -> None:
        for slot in self._free(slots):
            job = self._next()
            if job is None:
                return
            work = self._works[job.cell_id]
            worker = self._idle(slot) or self._executor.start(slot, job)
            if not work.begun:
                work.begun = True
                begun = self._journal.write("started", cell=job.cell_id)
                work.state.started = work.state.started or begun
                self._board.started(work.state)
            work.out += 1
            if job.unit is None:
                self._board.evaluating(work.state, 0)
            names = [unit.name for unit in job.planned.units]
            self._executor.give(worker, job, units=names, started=work.state.started, seconds=work.state.seconds)

    def _free(self, slots: Sequence[Slot]) -> list[Slot]:
        """Slots without a busy worker; equal slots are counted."""
        free = list(slots)
        for worker in self._executor.workers:
            if worker.job is not None and worker.slot in free:
                free.remove(worker.slot)
        return free

    def _idle(self, slot: Slot) -> Worker | None:
        return next((worker for worker in self._executor.workers if worker.job is None and worker.slot == slot), None)

    def _is_left(self) -> bool:
        """Whether there are jobs to hand out."""
        return bool(self._whole) or any(work.waiting and not work.over for work in self._with_units)

    def _next(self) -> Job | None:
        """The next job: finishing a cell before units, units in plan order."""
        while self._whole:
            work = self._whole.popleft()
            if not work.over:
                return Job(work.state.planned, None, work.state.batch)
        while self._with_units:
            work = self._with_units[0]
            if not work.over and work.waiting:
                return Job(work.state.planned, work.waiting.popleft(), work.state.batch)
            self._with_units.popleft()
        return None

    # ---- listening ----

    def _hear(self, worker: Worker, message: Message) -> None:
        job = worker.job
        assert job is not None
        work = self._works[job.cell_id]
        if message["kind"] in ("ended", "lost"):
            worker.job = None
            work.out -= 1
            if worker.ending == "timeout":
                self._fail(work, job, "timeout", f"{worker.silence}; see log.txt for the stack")
            elif message["kind"] == "lost":
                self._lost(work, job, message)
            else:
                self._fail(work, job, message["outcome"], message["reason"])
        elif message["kind"] == "progress":
            if job.unit is None:
                self._board.evaluating(work.state, message["done"])
            else:
                worker.done = message["done"]
                self._show(work)
        elif message["kind"] == "store":
            raise StoreError(message["what"], message["why"], f"make room, then: arbench resume {self._store.folder}")
        elif message["kind"] != "ready":
            worker.job = None
            work.out -= 1
            if message["kind"] == "unit":
                self._unit_done(work, job, message)
                if tasks()[job.planned.cell.task.task].fresh_units(job.planned.cell.task):
                    self._executor.end([worker])
            elif message["kind"] == "finished":
                work.over = True
                self._settle(work.state, self._store.read_result(job.cell_id), message["digest"], message["files"])
            else:
                self._fail(work, job, message["outcome"], message["reason"])
                if message["outcome"] == "oom":
                    self._executor.end([worker])  # its memory may be in pieces

    def _unit_done(self, work: _Work, job: Job, message: Message) -> None:
        assert job.unit is not None
        seconds = float(message["seconds"])
        samples = 0 if job.planned.exclusive else job.unit.stop - job.unit.start
        self._journal.write(
            "unit",
            cell=job.cell_id,
            unit=message["unit"],
            digest=message["digest"],
            samples=samples,
            seconds=round(seconds, 6),
            **({"node": message["node"]} if "node" in message else {}),
        )
        work.state.units[message["unit"]] = message["digest"]
        work.state.seconds += seconds
        if work.whole:
            self._whole.append(work)
        self._show(work)

    def _show(self, work: _Work) -> None:
        running = (worker for worker in self._executor.workers if worker.job and worker.job.cell_id == work.state.id)
        self._board.advanced(work.state, sum(worker.done for worker in running))

    def _check_time(self) -> None:
        now = time.monotonic()
        for worker in self._executor.workers:
            if worker.job is not None and worker.ending is None:
                patience = self._patience(worker.job)
                patience = patience if worker.ready else max(patience, START_SECONDS)
                if now - worker.worked > patience or now - worker.heard > self._limits.busy * patience:
                    self._executor.terminate(worker, "timeout")

    def _patience(self, job: Job) -> float:
        """Seconds of silence after which a job has timed out; finishing may take as long as the whole cell."""
        estimate = longest_seconds(job.planned) / (max(len(job.planned.units), 1) if job.unit else 1)
        return max(self._limits.factor * estimate, self._limits.silence)

    # ---- results ----

    def _fail(self, work: _Work, job: Job, outcome: Outcome, reason: str) -> None:
        if work.over:  # another unit of the cell has failed before
            return
        if outcome == "oom" and job.unit is not None and self._halved(work, job, job.unit, reason):
            return
        work.over = True
        work.waiting.clear()
        self.decide(work.state, outcome, reason)

    def _lost(self, work: _Work, job: Job, message: Message) -> None:
        """The job is done again elsewhere, unless it has lost too many machines."""
        name = "" if job.unit is None else job.unit.name
        about = {"node": message["node"], "reason": message["reason"]}
        self._journal.write("lost", cell=job.cell_id, unit=name, **about)
        self._losses[job.cell_id, name] += message["counts"]
        what = f"{job.planned.cell.label}: {f'unit {name}' if name else 'its evaluation'}"
        if self._losses[job.cell_id, name] >= LOSSES:
            why = f"its machine was lost {LOSSES} times; the last was {message['node']}: {message['reason']}"
            self._fail(work, job, "error", why)
            return
        self._board.note(f"{what} is done again: {message['node']} was lost: {message['reason']}")
        if work.over:
            return
        if job.unit is None:
            self._whole.append(work)
        else:
            work.waiting.appendleft(job.unit)
            self._with_units.appendleft(work)

    def _halved(self, work: _Work, job: Job, unit: Unit, reason: str) -> bool:
        """Whether the unit is done again, in a fresh process and with half of the batch."""
        state, batch = work.state, smaller_batch(with_batch(job.planned.cell, job.batch), unit)
        if batch is None:
            return False
        if state.batch is None or batch < state.batch:  # else a unit given out before has halved it already
            state.batch = batch
            self._journal.write("halved", cell=state.id, batch=batch, reason=reason)
            self._board.note(f"{state.planned.cell.label}: memory ran out; continues with batch {batch}: {reason}")
        work.waiting.appendleft(unit)
        self._with_units.appendleft(work)
        return True

    def decide(self, cell: CellState, outcome: Outcome, reason: str) -> None:
        """Writes the result of a cell that came to nothing."""
        result = failed_result(cell.planned.cell, outcome, reason, cell.started, cell.seconds)
        self._settle(cell, result, self._store.write_result(result))

    def _settle(self, cell: CellState, result: Result, digest: str, files: dict[str, str] | None = None) -> None:
        cell.outcome, cell.reason, cell.result, cell.digest = result.outcome, result.reason, result, digest
        cell.files = files or {}
        about = {"outcome": result.outcome, "digest": digest, "reason": result.reason, "files": cell.files}
        self._journal.write("finished", cell=cell.id, **about)
        self._board.finished(cell, result)
        self._on_result(cell, result)
