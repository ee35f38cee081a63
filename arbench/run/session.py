"""One session of a run, from `arbench run` or `arbench resume`: cells, table, tracking, report, summary, exit code."""

from __future__ import annotations

import shlex
import traceback
from pathlib import Path

from rich.console import Console
from rich.text import Text

from .. import journal as journals
from ..errors import INFRASTRUCTURE, INTERRUPTED, OK, PARTIAL, StoreError, UsageError
from ..spec.result import Result
from ..spec.suite import Settings
from ..table import write_tables
from ..track.sink import Tracker
from .device import all_devices, cores
from .display import Display
from .plan import Plan
from .pool import Slot
from .replay import FINAL, CellState, State, replay, verify
from .results import failed_result
from .stop import Stop
from .store import Store
from .summary import print_summary
from .supervisor import Limits, Supervisor

MAX_CPU_WORKERS = 4


def slots_for(settings: Settings, workers: int | None) -> tuple[list[Slot], Slot]:
    """Where the workers of quality cells run, and where the single one of a speed or memory cell does.

    `settings.device` is resolved. By default one worker per CUDA device, or up to four on the CPU, which share
    its cores.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: at least one is needed")
    devices = all_devices(settings.device)
    count = workers or (len(devices) if settings.device != "cpu" else min(cores(), MAX_CPU_WORKERS))
    threads = max(1, cores() // count)
    return [Slot(devices[index % len(devices)], threads) for index in range(count)], Slot(devices[0], cores())


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
    ) -> None:
        self.store = store
        self.console = console
        self.verb = verb
        self.workers = workers
        self.track = track
        self.limits = limits or Limits()
        self.state: State = {}
        self.tracker: Tracker | None = None
        self.writer: journals.Writer

    def go(self) -> int:
        """Returns the exit code; errors of the store are raised, with the journal as far as it could be written."""
        store, plan = self.store, self.store.run.plan
        slots, alone = slots_for(Settings(device=plan.device), self.workers)
        read = journals.read(store.journal) if store.journal.exists() else journals.Journal((), 0)
        self.writer = journals.Writer(store.journal)
        try:
            self.writer.write("session", verb=self.verb, workers=len(slots), device=plan.device)
            if not any(record["kind"] == "planned" for record in read.records):
                self.writer.write("planned", cells=[planned.cell.result_id for planned in plan.cells])
            self.state = replay(plan.cells, read.records)
            notes = [read.warning] if read.warning else []
            notes += verify(store, self.state)
            return self._run(plan, slots, alone, notes)
        finally:
            self.writer.close()

    def _run(self, plan: Plan, slots: list[Slot], alone: Slot, notes: list[str]) -> int:
        store = self.store
        self.tracker = self._tracker()
        display = Display(self.state, self.console)
        supervisor = Supervisor(
            store, plan, self.writer, self.state, display, on_result=self._on_result, limits=self.limits
        )
        with Stop() as stop:
            try:
                for text in notes:
                    self._note(text, display)
                self._decide(supervisor)
                todo = [cell for cell in self.state.values() if cell.result is None]
                supervisor.run([cell for cell in todo if not cell.planned.exclusive], slots, stop)
                for cell in (cell for cell in todo if cell.planned.exclusive):
                    if stop.requests:
                        break
                    self._quiet(supervisor, cell, alone, stop)
            except StoreError:
                if self.tracker:
                    self.tracker.finish(None, "interrupted", wait=5.0)
                raise
            finally:
                supervisor.close()
                display.close()
            if stop.requests:
                return self._interrupted()
        return self._complete()

    def _quiet(self, supervisor: Supervisor, cell: CellState, alone: Slot, stop: Stop) -> None:
        """A speed or memory cell: nothing else of ours is at work, MLflow's thread included."""
        if self.tracker:
            self.tracker.hold()
        try:
            supervisor.run([cell], [alone], stop)
        finally:
            if self.tracker:
                self.tracker.release()

    def _decide(self, supervisor: Supervisor) -> None:
        """Cells whose outcome the plan knows already."""
        for cell in self.state.values():
            planned = cell.planned
            if planned.outcome is not None and cell.result is None:
                supervisor.decide(cell, planned.outcome, planned.reason)

    def _on_result(self, cell: CellState, result: Result) -> None:
        write_tables(self.store.folder, self.store.run.run_id, self._results())
        if self.tracker:
            self.tracker.cell(result, self.store.cell(cell.id))

    def _results(self) -> list[Result]:
        return [cell.result for cell in self.state.values() if cell.result is not None]

    # ---- endings ----

    def _interrupted(self) -> int:
        """The cells not done get a result that says so, for the table; a resumed run does them."""
        results = []
        for cell in self.state.values():
            if cell.result is None:
                result = failed_result(
                    cell.planned.cell, "interrupted", "the run was interrupted", cell.started, cell.seconds
                )
                digest = self.store.write_result(result)
                self.writer.write("finished", cell=cell.id, outcome="interrupted", digest=digest, reason=result.reason)
                results.append(result)
            else:
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

    # ---- tracking ----

    def tracking_uri(self) -> str | None:
        """The MLflow URI: `--track` of this session, else of the run's first, else a database in the run's folder."""
        uri = self.track or self.store.run.track or f"sqlite:///{self.store.folder.absolute()}/mlflow.db"
        return None if uri == "off" else uri

    def _tracker(self) -> Tracker | None:
        uri = self.tracking_uri()
        if uri is None:
            return None
        tracker = Tracker(uri, self.store.folder / "mlartifacts", self.store.folder)
        tracker.start(self.store.run.plain())
        for cell in self.state.values():
            if cell.result is not None and not cell.tracked:
                tracker.cell(cell.result, self.store.cell(cell.id))
        return tracker

    def _finish_tracking(self, report: Path | None, outcome: str, wait: float = 120.0) -> None:
        if self.tracker is None:
            return
        self.tracker.finish(report, outcome, wait=wait)
        if self.tracker.tracked:
            self.writer.write("tracked", cells=self.tracker.tracked)
        if self.tracker.problem:
            self._note(f"tracking: {self.tracker.problem}")

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
        uri = self.tracking_uri()
        if self.tracker is not None and self.tracker.problem and not self.tracker.tracked:
            self._say(f"mlflow:  nothing was tracked; to try again: arbench resume {folder} --track URI")
        elif uri is not None and uri.startswith("sqlite:"):
            self._say(f"mlflow:  mlflow ui --backend-store-uri {shlex.quote(uri)}")
        elif uri is not None:
            self._say(f"mlflow:  {uri}")


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
    return replay(store.run.plan.cells, read.records)
