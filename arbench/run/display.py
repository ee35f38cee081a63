"""What a run shows while it is at work: a live table on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..errors import counted
from ..spec.result import Result
from ..terminal import Column, table_lines
from .pace import Pace, Seen
from .plan import PlannedCell
from .replay import CellState, State

LINE_SECONDS = 30.0
"""Between two plain lines of one cell that is still at work."""
FEW = 100
"""Cells for which the time left is estimated at each line; of more, which take their time, once a second."""
ROWS = 24
"""Cells in the live table; of more, those at work and the next ones are shown."""
COLUMNS = (
    Column("task", whole=True),
    Column("adapter", keep=True),
    Column("state", whole=True),
    Column("units", right=True, whole=True),
    Column("pace", right=True, keep=True),
)
WORKING = ("running", "evaluating")
STYLES = {"ok": "green", "done": "green", "unsupported": "yellow", **dict.fromkeys(WORKING, "cyan"), "waiting": "dim"}


@dataclass
class _Row:
    state: CellState
    word: str = "waiting"
    units: int = 0
    before: int = 0
    """Samples of units that an earlier session has finished."""
    units_before: int = 0
    """How many units those were."""
    samples: int = 0
    """Done in this session, with those reported from running units."""
    read: int = 0
    """Images of the reference that are done, while the cell is evaluated."""
    seconds_before: float = 0.0
    """Of units of an earlier session."""
    begun: float | None = None
    ended: float | None = None
    said: float = 0.0

    @property
    def total(self) -> int:
        return len(self.state.planned.units)

    @property
    def fraction(self) -> float:
        return 1.0 if self.state.done else self.units / (self.total + 1)

    def pace(self, now: float) -> str:
        """Images per second of a cell that makes images, else the time so far."""
        if self.begun is None:
            return ""
        elapsed = (self.ended or now) - self.begun
        if self.word == "evaluating":
            return f"{self.read} of the reference" if self.read else duration(elapsed)
        if self.samples and elapsed > 0:
            return f"{self.samples / elapsed:.1f} images/s"
        return duration(elapsed)


class Display:
    """Both kinds of display; `live` says which (a terminal is asked about if it is None)."""

    def __init__(self, state: State, console: Console, *, live: bool | None = None, workers: int = 1) -> None:
        self._console = console
        self._workers = workers
        self._left_at, self._left_words = float("-inf"), ""
        self._pace = Pace()
        """How work has fared when the time left was last told."""
        self._rows = {
            name: _Row(
                cell,
                units=len(cell.units),
                before=_samples(cell),
                units_before=len(cell.units),
                seconds_before=cell.seconds,
            )
            for name, cell in state.items()
        }
        for row in self._rows.values():
            if row.state.outcome is not None or row.state.done:
                row.word = row.state.outcome or "done"
        self._begun = time.monotonic()
        self._live: Live | None = None
        if console.is_terminal if live is None else live:
            self._live = Live(self._render(), console=console, auto_refresh=False, transient=True)
            self._live.start()

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, cell: CellState) -> None:
        row = self._rows[cell.id]
        row.word, row.begun, row.said = "running", time.monotonic(), time.monotonic()
        kept = f", {len(cell.units)} of {counted(row.total, 'unit')} kept" if cell.units else ""
        units, about = counted(row.total, "unit"), duration(self._expected(cell.planned))
        self._line(f"start  {cell.planned.cell.label}: {units}, about {about}{kept}")

    def advanced(self, cell: CellState, partial: int) -> None:
        row = self._rows[cell.id]
        row.units = len(cell.units)
        row.samples = _samples(cell) - row.before + partial if cell.planned.samples else 0
        if cell.done and row.word == "running":
            row.word, row.ended = "done", time.monotonic()
            self._line(f"done   {cell.planned.cell.label}: {counted(row.total, 'unit')} of this shard{self._left()}")

    def evaluating(self, cell: CellState, done: int) -> None:
        row = self._rows[cell.id]
        row.word, row.read = "evaluating", done

    def finished(self, cell: CellState, result: Result) -> None:
        row = self._rows[cell.id]
        row.word, row.units, row.ended = result.outcome, len(cell.units), time.monotonic()
        after = f" after {duration(row.ended - row.begun)}" if row.begun is not None else ""
        why = f": {result.reason}" if result.reason else ""
        self._line(f"{result.outcome:6} {cell.planned.cell.label}{after}{why}{self._left()}")

    def note(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(Text(f"note: {text}", style="yellow"))
        else:
            self._line(f"note   {text}")

    def refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._render(), refresh=True)
            return
        now = time.monotonic()
        for row in self._rows.values():
            if row.word in WORKING and now - row.said >= LINE_SECONDS:
                row.said = now
                label, word = row.state.planned.cell.label, "" if row.word == "running" else f"{row.word}, "
                done = f"{row.units} of {counted(row.total, 'unit')}"
                self._line(f"       {label}: {word}{done}, {row.pace(now)}{self._left()}")

    def _line(self, text: str) -> None:
        if self._live is None:
            self._console.print(Text(text), soft_wrap=True)

    # ---- estimates ----

    def _done_minutes(self) -> float:
        return sum(row.state.planned.minutes * row.fraction for row in self._rows.values())

    def seen(self, *, modelled: bool = False) -> list[Seen]:
        """What this session has done, beside what was planned for it, or `modelled`: by the cost model alone.

        Seconds are those of all workers together: of cells whose units they share, a worker's divided by their number.
        """
        found = []
        for row in self._rows.values():
            planned = row.state.planned
            minutes = planned.modelled if modelled and planned.modelled is not None else planned.minutes
            if row.begun is None or planned.outcome is not None:
                continue
            result, share = row.state.result, 1 if planned.exclusive else self._workers
            if result is not None and result.outcome == "ok" and not row.seconds_before:
                found.append(Seen(planned.cell, 60 * minutes, result.wall_seconds / share))
            elif not modelled and row.state.seconds > row.seconds_before:
                if planned.exclusive:  # its units are measurements, which hold no samples
                    part = (len(row.state.units) - row.units_before) / row.total
                else:
                    part = (_samples(row.state) - row.before) / max(sum(u.stop - u.start for u in planned.units), 1)
                found.append(Seen(planned.cell, 60 * minutes * part, (row.state.seconds - row.seconds_before) / share))
        return found

    def seconds_left(self) -> float | None:
        """By the plan, scaled by how work of the closest kind has fared so far; None before there is any."""
        self._pace, now = Pace.of(self.seen()), time.monotonic()
        if not self._pace:
            return None
        left = 0.0
        for row in self._rows.values():
            planned = row.state.planned
            if row.state.done or planned.outcome is not None:
                continue
            expected = self._expected(planned)
            if planned.exclusive:  # its one unit says nothing until it is over; what is late is later still
                passed = 0.0 if row.begun is None else now - row.begun
                left += max(expected - passed, passed / 3)
            else:
                left += expected * (1 - row.fraction)
        return left

    def _expected(self, planned: PlannedCell) -> float:
        """Seconds of a whole cell, as scaled when the time left was last told."""
        return 60 * planned.minutes * (self._pace.factor(planned.cell) or 1.0)

    def _left(self) -> str:
        now = time.monotonic()
        if len(self._rows) > FEW and now - self._left_at < 1:
            return self._left_words
        left = self.seconds_left()
        self._left_at, self._left_words = now, f"; about {duration(left)} left" if left else ""
        return self._left_words

    # ---- the live table ----

    def _render(self) -> Group:
        now = time.monotonic()
        several = any(row.state.planned.cell.setting for row in self._rows.values())
        columns = (*COLUMNS[:2], Column("setting"), *COLUMNS[2:]) if several else COLUMNS
        rows: list[list[str | Text]] = []
        for row in self._shown():
            cell, word = row.state.planned.cell, Text(row.word, style=STYLES.get(row.word, "red"))
            setting = [cell.setting] if several else []
            rows.append([cell.task.task, cell.adapter, *setting, word, f"{row.units}/{row.total}", row.pace(now)])
        total = sum(row.state.planned.minutes for row in self._rows.values())
        bar = Table.grid(padding=(0, 1))
        over = sum(row.state.done for row in self._rows.values())
        left = self.seconds_left()
        bar.add_row(
            ProgressBar(total=total or 1, completed=self._done_minutes(), width=40),
            f"{over} of {counted(len(self._rows), 'cell')}, {duration(now - self._begun)}"
            + (f", about {duration(left)} left" if left else ""),
        )
        return Group(*table_lines(columns, rows, self._console.width), bar)

    def _shown(self) -> Iterable[_Row]:
        rows = list(self._rows.values())
        if len(rows) <= ROWS:
            return rows
        order = sorted(rows, key=lambda row: (row.word not in WORKING, row.word != "waiting"))
        chosen = {row.state.id for row in order[:ROWS]}
        return [row for row in rows if row.state.id in chosen]


def _samples(cell: CellState) -> int:
    return sum(unit.stop - unit.start for unit in cell.planned.units if unit.name in cell.units)


def duration(seconds: float) -> str:
    """ "8 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
