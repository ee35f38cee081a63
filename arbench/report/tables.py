"""The main tables: a row per adapter and setting, a column per metric and protocol, and which of a column is best.

Numbers of different conventions, sample counts, data or machines are different columns, by construction.
"""

from __future__ import annotations

import fnmatch
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..spec.cell import TRANSPORT
from ..spec.result import Direction, Measure, Metric, Result
from . import number
from .folders import Entry, Planned

Kind = Literal["generator", "tokenizer"]
Mark = Literal["", "best", "tie"]

PREFERRED = (
    "edit/class-agreement",
    *("frechet*", "fid*", "kid*", "psnr*", "ssim*", "lpips*", "feature-distance*", "rfd*", "rfid*"),
    *("precision*", "recall*", "class-agreement*", "codebook-use*"),
    *("*latency*", "*per-second*", "peak-*batch*", "weights*", "peak*"),
)
"""Order of the columns within a group by name or task/name; those that match none come after, in the results' order."""
GROUPS = {
    "generate": "Quality",
    "reconstruct": "Quality",
    "edit": "Edits",
    "likelihood": "Likelihood",
    "speed": "Speed",
    "memory": "Memory",
}
"""Group of columns by task, in this order; a task not named here is a group of its own."""
MOST_COLUMNS = {"Quality": 6, "Edits": 1, "Likelihood": 1, "Speed": 4, "Memory": 3}
"""Names in a group; a name has several columns where protocols or conventions differ."""


@dataclass(frozen=True)
class Column:
    """Metrics that may be compared with each other. `note` tells apart columns that share a name."""

    task: str
    name: str
    unit: str
    convention: str
    measure: Measure
    direction: Direction | None
    protocol: str
    """The task's parameters and data (and the machine, for speed and memory), as JSON."""
    note: str = ""
    shown_unit: str = ""
    scale: float = 1.0

    @property
    def key(self) -> tuple[str, ...]:
        return (self.task, self.name, self.unit, self.convention, self.protocol)

    @property
    def group(self) -> str:
        return GROUPS.get(self.task, self.task)

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", None: ""}[self.direction]


@dataclass(frozen=True)
class Place:
    """A cell of the table. `low`, `high` and `at` are positions (0 to 100) in the column's range, for the bar."""

    text: str
    interval: str = ""
    title: str = ""
    flags: tuple[str, ...] = ()
    mark: Mark = ""
    metric: Metric | None = None
    outcome: str = ""
    at: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    adapter: str
    family: str
    settings_id: str
    device: str
    settings: str
    places: tuple[Place, ...] = ()

    @property
    def complete(self) -> bool:
        return all(place.metric is not None for place in self.places)


@dataclass(frozen=True)
class Table:
    kind: Kind
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    older: int
    """Results left out because a newer one has the same identity."""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Names of the groups and how many columns each has."""
        return list(Counter(column.group for column in self.columns).items())


def newest(entries: Sequence[Entry]) -> tuple[list[Entry], int]:
    """One entry per result and device, the latest that went well, and how many are left out."""
    chosen: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        key = (entry.result.result_id, _device(entry.result))
        if key not in chosen or _rank(entry.result) >= _rank(chosen[key].result):
            chosen[key] = entry
    return list(chosen.values()), len(entries) - len(chosen)


def make_table(entries: Sequence[Entry], planned: Sequence[Planned], kind: Kind) -> Table | None:
    """The main table of all adapters of `kind`, None if there are none. `planned`: cells that have no result yet."""
    kept, older = newest([entry for entry in entries if entry.result.kind == kind])
    if not kept:
        return None
    results = [entry.result for entry in kept]
    columns = _columns(results)
    rows: dict[tuple[str, str, str], list[Result]] = {}
    started = {key[:2]: key for key in map(_row_key, results) if key[2]}
    for result in results:
        adapter, settings, device = key = _row_key(result)
        # what was refused before it started has seen no device
        rows.setdefault(key if device else started.get((adapter, settings), key), []).append(result)
    waiting = {(cell.adapter, cell.task) for cell in planned}
    made = [_row(members, columns, waiting) for members in rows.values()]
    made = [replace(row, places=places) for row, places in zip(made, _marked(columns, made), strict=True)]
    return Table(kind, tuple(columns), tuple(sorted(made, key=lambda row: _order(row, columns))), older)


def _rank(result: Result) -> tuple[bool, str]:
    return result.outcome == "ok", result.started


def _device(result: Result) -> str:
    return result.provenance.device if result.provenance else ""


def _row_key(result: Result) -> tuple[str, str, str]:
    return result.adapter, result.settings_id, _device(result)


def protocol(result: Result) -> dict[str, Any]:
    """All but the adapter that a number depends on, hence what numbers must share to be compared."""
    found = {key: value for key, value in result.parameters.items() if key not in TRANSPORT | {"task", "batches"}}
    if result.provenance:
        found |= {f"digest of {name}": digest[:12] for name, digest in result.provenance.data.items()}
    if result.task in ("speed", "memory"):
        found["device"] = _device(result)
    if "seed" in result.load:
        found["seed"] = result.load["seed"]
    return found


def column_of(result: Result, metric: Metric) -> Column:
    """The column that `metric` belongs to."""
    settings = json.dumps(protocol(result), sort_keys=True, default=str)
    return Column(result.task, metric.name, metric.unit, metric.convention, metric.measure, metric.direction, settings)


def _columns(results: Sequence[Result]) -> list[Column]:
    values: dict[tuple[str, ...], list[float]] = {}
    found: dict[tuple[str, ...], Column] = {}
    for result in results:
        for metric in result.metrics:
            column = column_of(result, metric)
            found.setdefault(column.key, column)
            values.setdefault(column.key, []).extend([] if metric.value is None else [metric.value])
    filled = [column for key, column in found.items() if values[key]]
    chosen: list[Column] = []
    for group in dict.fromkeys([*GROUPS.values(), *(column.group for column in filled)]):
        members = [column for column in filled if column.group == group]
        members = [column for column in members if column.direction] or members
        members.sort(key=_preference)
        names = list(dict.fromkeys(column.name for column in members))[: MOST_COLUMNS.get(group, 4)]
        chosen += [column for column in members if column.name in names]
    scaled = []
    for column in chosen:
        unit, scale = number.fitting_unit(column.unit, values[column.key])
        scaled.append(replace(column, shown_unit=unit, scale=scale, note=_difference(column, chosen)))
    return scaled


def _preference(column: Column) -> int:
    names = column.name, f"{column.task}/{column.name}"
    matches = (i for i, pattern in enumerate(PREFERRED) if any(fnmatch.fnmatchcase(name, pattern) for name in names))
    return next(matches, len(PREFERRED))


def _difference(column: Column, columns: Sequence[Column]) -> str:
    """What sets a column apart from others of its name: convention, then the parameters that differ."""
    others = [other for other in columns if other.name == column.name and other.task == column.task]
    parts = [column.convention] if len({other.convention for other in others}) > 1 else []
    own = json.loads(column.protocol)
    for key in sorted({key for other in others for key in json.loads(other.protocol)}):
        if len({json.dumps(json.loads(other.protocol).get(key)) for other in others}) > 1:
            parts.append(f"{key} {own.get(key, 'none')}")
    return ", ".join(parts)


def describe(result: Result) -> str:
    """Load and sampling settings that are not the plain default, short: "bfloat16 · guidance 2 · top-k 100"."""
    parts = [str(result.load.get("dtype", ""))]
    if result.load.get("init") == "random":
        parts.append("random weights")
    if result.load.get("compile"):
        parts.append("compiled")
    sampling = result.sampling
    if sampling:
        guidance = sampling.guidance
        if guidance.on:
            ramp = "" if guidance.schedule == "constant" else f" {guidance.schedule.replace('_', ' ')}"
            parts.append(f"guidance {guidance.scale:g}{ramp}")
        parts.append(f"temperature {sampling.temperature:g}" if sampling.temperature != 1 else "")
        knobs = {"top-k": sampling.top_k, "top-p": sampling.top_p, "steps": sampling.steps}
        knobs |= {"inner steps": sampling.inner_steps, **sampling.extra}
        parts += [f"{name} {value}" for name, value in knobs.items() if value is not None]
        parts.append("" if sampling.order == "native" else f"{sampling.order} order")
    return " · ".join(part for part in parts if part)


def _row(members: Sequence[Result], columns: Sequence[Column], waiting: set[tuple[str, str]]) -> Row:
    first = members[0]
    settings = next((describe(result) for result in members if result.sampling), describe(first))
    places = tuple(_place(members, column, waiting) for column in columns)
    device = next((device for device in map(_device, members) if device), "")
    return Row(first.adapter, first.family, first.settings_id, device, settings, places)


def _place(members: Sequence[Result], column: Column, waiting: set[tuple[str, str]]) -> Place:
    of_task = [result for result in members if result.task == column.task]
    for result in of_task:
        for metric in result.metrics:
            if column_of(result, metric).key == column.key:
                return _filled(metric, column)
    failed = next((result for result in of_task if result.outcome != "ok"), None)
    if failed:
        return Place("–", title=f"{failed.outcome}: {failed.reason or 'no reason given'}", outcome=failed.outcome)
    if (members[0].adapter, column.task) in waiting:
        return Place("–", title=f"{column.task} has not run yet", outcome="to do")
    if not of_task:
        return Place("–", title=f"no {column.task} cell with these settings")
    return Place("–", title=f"not measured under this protocol: {column.convention}, {column.protocol}")


def _filled(metric: Metric, column: Column) -> Place:
    if metric.value is None:
        return Place("–", title=metric.reason, flags=metric.flags)
    interval = metric.interval
    low = interval.low / column.scale if interval else None
    high = interval.high / column.scale if interval else None
    text, spread = number.with_interval(metric.value / column.scale, low, high)
    how = f"{interval.level:.0%} interval by {interval.method}" if interval else "no interval"
    title = f"n = {metric.n:,}; {how}; {metric.convention}"
    return Place(text, spread, title, metric.flags, metric=metric)


def bounds(metric: Metric | None) -> tuple[float, float] | None:
    """The interval of a metric, None where nothing is known of its spread."""
    if metric is None or metric.value is None or metric.interval is None:
        return None
    return metric.interval.low, metric.interval.high


def marks(metrics: Sequence[Metric | None], direction: Direction | None) -> list[Mark]:
    """ "best" for a value whose interval overlaps no other's, "tie" for all that overlap with the best one.

    No mark where there is nothing to beat, no direction, or a value without an interval.
    """
    blank: list[Mark] = [""] * len(metrics)
    present = {index: metric for index, metric in enumerate(metrics) if metric and metric.value is not None}
    spread = {index: bounds(metric) for index, metric in present.items()}
    if direction is None or len(present) < 2 or not all(spread.values()):
        return blank
    sign = 1 if direction == "higher" else -1
    top = max(present, key=lambda index: sign * (present[index].value or 0.0))
    low, high = spread[top] or (0.0, 0.0)
    rivals = [i for i, s in spread.items() if i != top and s and s[0] <= high and s[1] >= low]
    for index in (top, *rivals):
        blank[index] = "tie" if rivals else "best"
    return blank


def _marked(columns: Sequence[Column], rows: Sequence[Row]) -> list[tuple[Place, ...]]:
    """The places of each row with marks, and with positions for the bars."""
    by_column: list[list[Place]] = []
    for index, column in enumerate(columns):
        places = [row.places[index] for row in rows]
        found = marks([place.metric for place in places], column.direction)
        spans = [bounds(place.metric) for place in places]
        ends = [end for span in spans if span for end in span]
        ends += [place.metric.value for place in places if place.metric and place.metric.value is not None]
        least, most = min(ends, default=0.0), max(ends, default=0.0)
        if sum(place.metric is not None for place in places) < 2:
            least = most = 0.0  # a range of its own says nothing
        by_column.append([_positioned(place, mark, least, most) for place, mark in zip(places, found, strict=True)])
    return list(zip(*by_column, strict=True)) if by_column else [() for _ in rows]


def _positioned(place: Place, mark: Mark, least: float, most: float) -> Place:
    metric = place.metric
    if metric is None or metric.value is None or most <= least:
        return replace(place, mark=mark)
    low, high = bounds(metric) or (metric.value, metric.value)
    at, low, high = (100 * (value - least) / (most - least) for value in (metric.value, low, high))
    return replace(place, mark=mark, at=round(at, 1), low=round(low, 1), high=round(high, 1))


def _order(row: Row, columns: Sequence[Column]) -> tuple[bool, float, str, str]:
    """Best first by the first column that has a direction; rows without that number last, by name."""
    for place, column in zip(row.places, columns, strict=True):
        if column.direction:
            value = place.metric.value if place.metric else None
            if value is None:
                return True, 0.0, row.adapter, row.settings_id
            return False, value if column.direction == "lower" else -value, row.adapter, row.settings_id
    return True, 0.0, row.adapter, row.settings_id
