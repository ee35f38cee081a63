"""One session of a run, from `arbench run` or `arbench resume`: cells, table, tracking, report, summary, exit code."""

from __future__ import annotations

import importlib
import shlex
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from .. import journal as journals
from ..errors import INFRASTRUCTURE, INTERRUPTED, OK, PARTIAL, ArbenchError, counted
from ..measure import guard
from ..spec.result import Result
from ..spec.suite import Settings
from ..spec.task import tasks
from ..table import write_tables
from ..track import target as tracking
from ..track.sink import Tracker
from .device import Place
from .display import Display
from .executor import Executor, Job, own_process
from .local import LocalExecutor
from .mirror import Mirror
from .nursery import Nursery
from .pace import keep
from .plan import Plan
from .replay import FINAL, CellState, State, replay, verify
from .results import failed_result
from .shard import Shard
from .slots import slots_for
from .stop import Stop
from .store import Store
from .summary import print_summary
from .supervisor import Limits, Supervisor

if TYPE_CHECKING:
    from .ray_cluster import RayCluster

TABLES_SHARE = 0.02
"""The share of a run's time that writing its tables may take meanwhile."""
GLANCE = 0.3
"""Seconds of a look at what else is at work."""


class Session:
    """Runs what is left of a stored run. `verb` is "run" or "resume"; `workers` and `track` as on the command line."""

    def __init__(
        self,
        store: Store,
        console: Console,
        verb: str,
        workers: int | None = None,
        track: str | None = None,
        limits: Limits | None = None,
        wait_idle: float = 0.0,
        cluster: RayCluster | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        self.store = store
        self.console = console
        self.verb = verb
        self.workers = workers
        self.track = track
        self.limits = limits or Limits()
        self.wait_idle = wait_idle
        """Seconds to wait for an idle machine before each speed or memory cell."""
        self.cluster = cluster
        """Whose nodes do the work, in place of this machine."""
        self.nursery = nursery
        """Begun ahead, for workers on this machine; it is ended here."""
        self._tables_due = 0.0
        self.state: State = {}
        self.target = self._target()
        self.tracker: Tracker | None = None
        self.mirror = Mirror(store.folder, store.run.mirror) if store.run.mirror else None
        self._upload_problem = ""
        self.writer: journals.Writer

    def go(self) -> int:
        """Returns the exit code; errors of the store are raised, with the journal as far as it could be written."""
        store, plan = self.store, self.store.plan
        most = max((cell.gigabytes for cell in plan.cells if not cell.exclusive), default=0.0)
        executor = self._executor(most)
        workers = len(executor.slots(alone=False))
        if self.verb != "run" and self.target is not None and not self.target.own:  # `start` has asked otherwise
            tracking.check(self.target, "--track off")
        if self.mirror is not None:
            self.mirror.start()
        read = journals.read(store.journal) if store.journal.exists() else journals.Journal((), 0)
        self.writer = journals.Writer(store.journal)
        try:
            about = {"executor": "local" if self.cluster is None else "ray"}
            self.writer.write("session", verb=self.verb, workers=workers, device=plan.device, **about)
            if not any(record["kind"] == "planned" for record in read.records):
                self.writer.write("planned", cells=[planned.cell.result_id for planned in plan.cells])
            self.state = replay(plan.cells, read.records)
            notes = [text for text in (read.warning, self._not_tracked_there(), self._not_uploaded()) if text]
            notes += verify(store, self.state)
            code = self._run(plan, executor, workers, notes)
        except BaseException:
            if self.mirror is not None:
                self.mirror.stop()
            raise
        finally:
            executor.close()
            self.writer.close()
        return self._uploaded(code)

    def _executor(self, gigabytes: float) -> Executor:
        """What does the units, of cells that take so many `gigabytes` at most."""
        store, plan = self.store, self.store.plan
        if self.cluster is None:
            slots, alone = slots_for(Settings(device=plan.device), self.workers, gigabytes)
            if self.nursery is not None and all(tasks()[each.cell.task.task].own_process for each in plan.cells):
                self.nursery.close()  # nobody needs it, and measuring begins
            return LocalExecutor(store.folder, plan.weights, slots, alone, self.limits.kill_after, self.nursery)
        from .ray_executor import RayExecutor

        where = (plan.weights, Place(plan.device, plan.machine), self.workers, gigabytes, self.limits.kill_after)
        return RayExecutor(self.cluster, store.folder, store.run.run_id, *where)

    def _run(self, plan: Plan, executor: Executor, workers: int, notes: list[str]) -> int:
        store = self.store
        self.tracker = self._tracker()
        display = Display(self.state, self.console, workers=workers)
        supervisor = Supervisor(
            store, executor, self.writer, self.state, display, on_result=self._on_result, limits=self.limits
        )
        with Stop() as stop:
            try:
                for text in notes:
                    self._note(text, display)
                self._decide(supervisor)
                todo = [cell for cell in self.state.values() if not cell.done]
                supervisor.run([cell for cell in todo if not cell.planned.exclusive], stop, meanwhile=self._prepare)
                measured = sorted(
                    (cell for cell in todo if cell.planned.exclusive), key=lambda cell: own_process(cell.planned)
                )
                for cell, after in zip_longest(measured, measured[1:]):
                    if stop.requests:
                        break
                    self._look_around(display, first=cell is measured[0])
                    self._quiet(supervisor, cell, stop, partial(_begin_ahead, executor, cell, after))
            except ArbenchError:
                if self.tracker:
                    self.tracker.finish(None, "interrupted", wait=5.0)
                raise
            finally:
                display.close()
                keep(plan.machine, display.seen(modelled=True))
            if stop.requests:
                return self._interrupted()
        return self._complete() if store.run.shard is None else self._shard_complete(store.run.shard)

    def _prepare(self) -> None:
        """What tables and report take whatever they show: imports and templates. Not beside a cell that measures."""
        if self.store.run.shard is None:
            with suppress(Exception):  # it is told where they are written
                importlib.import_module("pyarrow.parquet")
                importlib.import_module("arbench.report.page").prepare()

    def _look_around(self, display: Display, *, first: bool) -> None:
        """Says, before it is measured, that the machine is busy; waits for it where that was asked for."""
        if not first and not self.wait_idle:
            return
        if self.cluster is not None and not self.cluster.starts_here(self.store.plan.device):
            return
        found = guard.wait_idle(self.wait_idle, pause=1.0 if self.wait_idle else GLANCE)
        if spoils := guard.told(found, guard.cores()):
            waited = f" after {self.wait_idle:g} s of waiting" if self.wait_idle else ""
            hint = "" if self.wait_idle else "; --wait-idle SECONDS waits for an idle machine"
            self._note(f"timings will be flagged: {spoils}{waited}{hint}", display)

    def _quiet(self, supervisor: Supervisor, cell: CellState, stop: Stop, meanwhile: Callable[[], None]) -> None:
        """A speed or memory cell: nothing else of ours is at work, MLflow's thread included, but for `meanwhile`."""
        at_work = [each for each in (self.tracker, self.mirror) if each is not None]
        for each in at_work:
            each.hold()
        try:
            supervisor.run([cell], stop, alone=True, meanwhile=meanwhile)
        finally:
            for each in at_work:
                each.release()

    def _decide(self, supervisor: Supervisor) -> None:
        """Cells whose outcome the plan knows already."""
        for cell in self.state.values():
            planned = cell.planned
            if planned.outcome is not None and cell.result is None:
                supervisor.decide(cell, planned.outcome, planned.reason)

    def _on_result(self, cell: CellState, result: Result) -> None:
        if time.monotonic() >= self._tables_due:  # they grow with each result, and are written at the end anyway
            begin = time.monotonic()
            write_tables(self.store.folder, self.store.run.run_id, self._results())
            end = time.monotonic()
            self._tables_due = end + (end - begin) / TABLES_SHARE
        if self.tracker:
            self.tracker.cell(result, self.store.cell(cell.id))
        if self.mirror is not None and self.mirror.problem != self._upload_problem:
            self._note(self._not_uploaded() or "uploads continue")

    def _results(self) -> list[Result]:
        return [cell.result for cell in self.state.values() if cell.result is not None]

    # ---- endings ----

    def _interrupted(self) -> int:
        """The cells not done get a result that says so, for the table; a resumed run does them."""
        results = []
        for cell in self.state.values():
            if not cell.done:
                result = failed_result(
                    cell.planned.cell, "interrupted", "the run was interrupted", cell.started, cell.seconds
                )
                digest = self.store.write_result(result)
                self.writer.write("finished", cell=cell.id, outcome="interrupted", digest=digest, reason=result.reason)
                results.append(result)
            elif cell.result is not None:
                results.append(cell.result)
        write_tables(self.store.folder, self.store.run.run_id, results)
        self.writer.write("interrupted")
        self._finish_tracking(None, "interrupted", wait=5.0)
        self._say(f"interrupted; to resume: arbench resume {shlex.quote(str(self.store.folder))}")
        return INTERRUPTED

    def _complete(self) -> int:
        results = self._results()
        write_tables(self.store.folder, self.store.run.run_id, results)
        report = self._report()
        outcome, code = verdict(results)
        if report is None:
            code = code or PARTIAL
        self._finish_tracking(report, outcome)
        self.writer.write("ended", outcome=outcome)
        print_summary(self.console, results)
        self._closing_summary(report, code)
        return code

    def _shard_complete(self, shard: Shard) -> int:
        """A shard has units more than results: `arbench merge` makes the tables and the report."""
        cells = list(self.state.values())
        failed = [cell for cell in cells if not cell.done or (cell.result and cell.result.outcome not in FINAL)]
        outcome, code = ("partial", PARTIAL) if failed else ("complete", OK)
        self.writer.write("ended", outcome=outcome)
        for cell in failed:
            self._say(f"{cell.outcome}: {cell.planned.cell.label}: {cell.reason}")
        done, units = sum(len(cell.units) for cell in cells), sum(len(cell.planned.units) for cell in cells)
        folder = shlex.quote(str(self.store.folder))
        self._say(f"shard {shard}: {done} of {counted(units, 'unit')} are done, in {folder}")
        if failed:
            self._say(f"to try again what failed: arbench resume {folder}")
        self._say("when all shards are done: arbench merge DIR... -o DIR")
        return code

    def _report(self) -> Path | None:
        """The path of the report; a failure to render it loses no result."""
        from ..report.page import write_report

        try:
            return write_report([self.store.folder], self.store.folder / "report.html")
        except Exception as error:
            (self.store.folder / "report.log").write_text(traceback.format_exc(), encoding="utf-8")
            line = (str(error).splitlines() or [""])[0]
            self._note(f"the report could not be written ({type(error).__name__}: {line}); see report.log")
            return None

    def _not_uploaded(self) -> str:
        self._upload_problem = self.mirror.problem if self.mirror is not None else ""
        return f"uploads fail, and are tried again: {self._upload_problem}" if self._upload_problem else ""

    def _uploaded(self, code: int) -> int:
        """Uploads what is left, and says whether all is at the address; the exit code with that in it."""
        if self.mirror is None:
            return code
        self.mirror.finish()
        if not self.mirror.problem:
            self._say(f"uploaded: {self.mirror.place.address}")
            return code
        folder = shlex.quote(str(self.store.folder))
        self._say(f"not all is uploaded to {self.mirror.place.address}: {self.mirror.problem}")
        self._say(f"nothing is lost, it is in {folder}; to upload it: arbench resume {folder}")
        return code or PARTIAL

    # ---- tracking ----

    def _target(self) -> tracking.Target | None:
        """Where to track: `--track` of this session, else where the run began, else a database in the run's folder."""
        address = tracking.absolute(self.track) or self.store.run.track
        if address == tracking.OFF or self.store.run.shard is not None:
            return None
        return tracking.target(address, self.store.folder) if address else tracking.own(self.store.folder)

    def _not_tracked_there(self) -> str:
        """A note where the environment names another store than the one that the run began with, or ""."""
        address = tracking.absolute(tracking.of_environment())
        if self.verb == "run" or self.track or address is None or self.target is None:
            return ""
        other = tracking.target(address, self.store.folder)
        if other == self.target:
            return ""
        return (
            f"{tracking.ADDRESS} is not used: the run is tracked where it began, unless --track {other.shown} is given"
        )

    def _tracker(self) -> Tracker | None:
        if self.target is None:
            return None
        tracker = Tracker(self.target, self.store.folder)
        tracker.start(self.store.run.plain())
        for cell in self.state.values():
            if cell.result is not None and not self._is_tracked(cell):
                tracker.cell(cell.result, self.store.cell(cell.id))
        return tracker

    def _is_tracked(self, cell: CellState) -> bool:
        """Whether an earlier session has sent the result to this very store."""
        return self.target is not None and cell.tracked == self._store_name(self.target)

    @staticmethod
    def _store_name(target: tracking.Target) -> str:
        return "own" if target.own else target.shown  # a run's own database moves with it

    def _finish_tracking(self, report: Path | None, outcome: str, wait: float = 120.0) -> None:
        if self.tracker is None or self.target is None:
            return
        self.tracker.finish(report, outcome, wait=wait)
        tracked = self.tracker.tracked
        if tracked:
            self.writer.write("tracked", cells=tracked, store=self._store_name(self.target))
            for name in tracked:
                if name in self.state:
                    self.state[name].tracked = self._store_name(self.target)
        for text in (*self.tracker.remarks, *([self.tracker.problem] if self.tracker.problem else [])):
            self._note(f"tracking: {text}")

    # ---- words ----

    def _note(self, text: str, display: Display | None = None) -> None:
        self.writer.write("note", text=text)
        if display:
            display.note(text)
        else:
            self._say(f"note: {text}")

    def _say(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)

    def _closing_summary(self, report: Path | None, code: int) -> None:
        folder = shlex.quote(str(self.store.folder))
        if code == PARTIAL:
            self._say(f"some cells failed (logs: {folder}/cells/*/log.txt); to try them again: arbench resume {folder}")
        self._say(f"results: {self.store.folder / 'results.parquet'}")
        if report is not None:
            self._say(f"report:  {report}")
        if self.target is not None:
            self._say(f"mlflow:  {self._tracked_summary(self.target, folder)}")

    def _tracked_summary(self, target: tracking.Target, folder: str) -> str:
        done = [cell for cell in self.state.values() if cell.result is not None]
        count = sum(self._is_tracked(cell) for cell in done)
        again = f"to try again: arbench resume {folder}"
        if not count:
            return f"nothing was tracked; {again} --track URI"
        if count < len(done):
            return f"{count} of {len(done)} results are tracked, {again}; {target.view}"
        return f"{count} of {len(done)} results are tracked: {target.view}"


def _begin_ahead(executor: Executor, cell: CellState, after: CellState | None) -> None:
    """The worker of the cell that follows may import while this one is at work, if both only meter their own process:
    a cell that is timed has the machine for itself."""
    if after is not None and own_process(cell.planned) and own_process(after.planned):
        executor.ahead(Job(after.planned, after.planned.units[0]))


def verdict(results: list[Result]) -> tuple[str, int]:
    """A word for the whole run and its exit code."""
    if not any(result.outcome == "ok" for result in results):
        return "nothing", INFRASTRUCTURE
    if any(result.outcome not in FINAL for result in results):
        return "partial", PARTIAL
    return "complete", OK


def state_of(store: Store) -> State:
    """The state of a run as its journal tells it, without looking at the files."""
    read = journals.read(store.journal) if store.journal.exists() else journals.Journal((), 0)
    return replay(store.plan.cells, read.records)
