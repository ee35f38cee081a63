"""The main tables: a row per adapter, settings and device, a column per comparable number, and what is best in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from ..spec.result import Direction, Metric, Result
from . import number
from .columns import Column, columns_of, group_of, ordered, task_of
from .folders import Entry, Planned
from .repeats import covers, spread_words, together
from .rows import Key, RowKey, described, measured, members_for, newest, rows, unguided, with_unguided

Kind = Literal["generator", "tokenizer", "images"]
Mark = Literal["", "best", "tie"]


@dataclass(frozen=True)
class Change:
    """How a number differs from the baseline's, for reading: the difference with its interval, and the verdict."""

    text: str
    sign: str
    verdict: str
    title: str


@dataclass(frozen=True)
class Place:
    """A cell of the table. `low`, `high` and `at` are positions (0 to 100) in the column's range, for the bar."""

    text: str
    interval: str = ""
    spread: str = ""
    """Beside the interval: how far several seeds or trainings lie apart."""
    title: str = ""
    flags: tuple[str, ...] = ()
    mark: Mark = ""
    metric: Metric | None = None
    outcome: str = ""
    at: float | None = None
    low: float | None = None
    high: float | None = None
    change: Change | None = None


@dataclass(frozen=True)
class Row:
    adapter: str
    family: str
    settings_id: str
    device: str
    settings: str
    places: tuple[Place, ...] = ()
    flags: tuple[str, ...] = ()
    """Those that all of its numbers against a reference have, told once."""
    complete: bool = False
    """Whether it has a number in every column that is shown from the start."""


@dataclass(frozen=True)
class Heading:
    """A run of columns of one group and convention."""

    text: str
    columns: int
    shown: int
    """Of these, how many are shown from the start."""


@dataclass(frozen=True)
class Unmeasured:
    """Columns that hold only nulls, and why."""

    columns: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Table:
    kind: Kind
    columns: tuple[Column, ...]
    """Those that hold a value, shown or not, and of those that hold none the ones to show."""
    rows: tuple[Row, ...]
    unmeasured: tuple[Unmeasured, ...]
    older: int
    """Results left out because a newer one has the same identity."""
    flags: tuple[tuple[str, ...], ...]
    """Of each column, those that all of its numbers have, told once."""

    @property
    def counts(self) -> list[str]:
        """Of each column "n 512", where all of its numbers are of so many samples or calls, else ""."""
        found = []
        for places in zip(*(row.places for row in self.rows), strict=True):
            known = {place.metric.n for place in places if place.metric is not None}
            found.append(f"n {known.pop():,}" if len(known) == 1 else "")
        return found

    @property
    def headings(self) -> list[Heading]:
        """Groups, with the convention where numbers have one: "Quality · adm"."""
        timed = {column.group for column in self.columns if column.measure != "quality"}

        def text(column: Column) -> str:
            plain = column.group in timed or not column.source
            return column.group if plain else f"{column.group} · {column.source}"

        found = []
        for name, members in groupby(self.columns, key=text):
            own = list(members)
            found.append(Heading(name, len(own), sum(column.shown for column in own)))
        return found

    @property
    def hidden(self) -> int:
        """Columns that are not shown from the start."""
        return sum(not column.shown for column in self.columns)


def make_table(entries: Sequence[Entry], planned: Sequence[Planned], kind: Kind) -> Table | None:
    """The main table of all adapters of `kind`, None if there are none. `planned`: cells that have no result yet."""
    kept, older = newest([entry for entry in entries if entry.result.kind == kind], lambda entry: entry.result)
    if not kept:
        return None
    results = together([entry.result for entry in kept])
    found, empty = columns_of(results)
    grouped = rows(results)
    waiting = {(cell.adapter, group_of(cell.task)) for cell in planned}
    # what was asked for and is null everywhere stays, with its reason, if it would be in the table from the start
    kept_columns = ordered([*found, *(column for column in empty if column.shown)])
    columns = _fitted(with_unguided(kept_columns, grouped), grouped.values())
    told, fellows = described(results), unguided(grouped)
    made = [
        _row(
            key,
            grouped[key],
            told[key[:2]],
            [members_for(column, key, grouped, fellows) for column in columns],
            columns,
            waiting,
        )
        for key in grouped
    ]
    made = [replace(row, places=places) for row, places in zip(made, _marked(columns, made), strict=True)]
    flags = [_common_flags(places) for places in zip(*(row.places for row in made), strict=True)]
    made = [replace(row, places=_without(row.places, flags)) for row in made]
    return Table(
        kind,
        tuple(columns),
        tuple(sorted(made, key=lambda row: _order(row, columns))),
        _unmeasured(empty, results),
        older,
        tuple(flags),
    )


def _common_flags(places: Sequence[Place]) -> tuple[str, ...]:
    """Of three numbers and more, the flags that all of them have."""
    known = [place.flags for place in places if place.metric is not None]
    return tuple(flag for flag in known[0] if all(flag in flags for flags in known)) if len(known) > 2 else ()


def _without(places: Sequence[Place], flags: Sequence[Sequence[str]]) -> tuple[Place, ...]:
    """`places` of a row without the flags that their columns tell."""
    told = zip(places, flags, strict=True)
    return tuple(replace(place, flags=tuple(flag for flag in place.flags if flag not in own)) for place, own in told)


def _fitted(columns: Sequence[Column], grouped: Iterable[Sequence[Result]]) -> list[Column]:
    """With units that the values are easy to read in, the same for all columns of one name."""
    members = list(grouped)
    values: dict[tuple[str, str, str], list[float]] = {}
    for column in columns:
        metrics = [measured(own, column) for own in members]
        known = [metric.value for metric in metrics if metric is not None and metric.value is not None]
        values.setdefault((column.group, column.name, column.unit), []).extend(known)
    fitted = {key: number.fitting_unit(key[2], known) for key, known in values.items()}
    units = [fitted[column.group, column.name, column.unit] for column in columns]
    return [replace(column, shown_unit=unit, scale=scale) for column, (unit, scale) in zip(columns, units, strict=True)]


def _unmeasured(columns: Sequence[Column], results: Sequence[Result]) -> tuple[Unmeasured, ...]:
    """By reason, those first that the table would show from the start."""
    reasons: dict[tuple[str, ...], list[str]] = {}
    for column in sorted(columns, key=lambda column: not column.shown):
        nulls = (measured([result], column) for result in results)
        why = dict.fromkeys(metric.reason for metric in nulls if metric is not None)
        reasons.setdefault(tuple(why), []).append(column.words)
    return tuple(Unmeasured(tuple(dict.fromkeys(names)), " / ".join(why)) for why, names in reasons.items())


def _row(
    key: RowKey,
    members: Sequence[Result],
    words: str,
    held_by: Sequence[Sequence[Result]],
    columns: Sequence[Column],
    waiting: set[Key],
) -> Row:
    """`held_by`: for each column the results that hold the row's number in it."""
    first, (_, _, device) = members[0], key
    places = tuple(_place(own, column, waiting) for own, column in zip(held_by, columns, strict=True))
    complete = all(
        place.metric for place, column in zip(places, columns, strict=True) if column.shown and not column.empty
    )
    shared = _shared_flags(places)
    places = tuple(replace(place, flags=tuple(flag for flag in place.flags if flag not in shared)) for place in places)
    return Row(first.adapter, first.family, first.settings_id, device, words, places, shared, complete)


def _shared_flags(places: Sequence[Place]) -> tuple[str, ...]:
    """Of three numbers and more against a reference, the flags that all of them have."""
    compared = [place.flags for place in places if place.metric is not None and place.metric.reference is not None]
    if len(compared) < 3:
        return ()
    return tuple(flag for flag in compared[0] if all(flag in flags for flags in compared))


def _place(members: Sequence[Result], column: Column, waiting: set[tuple[str, str]]) -> Place:
    if column.unguided and not members:
        return Place("–", title="no row that differs from this one in its guidance alone")
    metric = measured(members, column)
    if metric is not None:
        return _filled(metric, column, members[0].kind)
    of_group = [result for result in members if group_of(task_of(result)) == column.group]
    failed = next((result for result in of_group if result.outcome != "ok"), None)
    if failed:
        return Place("–", title=f"{failed.outcome}: {failed.reason or 'no reason given'}", outcome=failed.outcome)
    if (members[0].adapter, column.group) in waiting:
        return Place("–", title=f"{column.task} has not run yet", outcome="to do")
    if not of_group:
        return Place("–", title=f"no {column.task} cell with these settings")
    return Place("–", title=f"not measured under this protocol: {column.words}, {column.protocol}")


def _filled(metric: Metric, column: Column, kind: str) -> Place:
    if metric.value is None:
        return Place("–", title=metric.reason, flags=metric.flags)
    interval = metric.interval
    low = interval.low / column.scale if interval else None
    high = interval.high / column.scale if interval else None
    text, span = number.with_interval(metric.value / column.scale, low, high)
    span_by = f"{interval.level:.0%} interval by {interval.method}" if interval else "no interval"
    against = f"against {metric.reference.name}" if metric.reference else ""
    apart = spread_words(metric, column.scale)
    parts = (f"n = {metric.n:,}", span_by, covers(metric, kind), apart, against, metric.how)
    return Place(text, span, apart, "; ".join(part for part in parts if part), metric.flags, metric=metric)


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
        found = marks([place.metric for place in places], None if column.unguided else column.direction)
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
    """Best first by the first shown column that has a direction; rows without that number last, by name."""
    for place, column in zip(row.places, columns, strict=True):
        if column.direction and column.shown and not column.empty:
            value = place.metric.value if place.metric else None
            if value is None:
                return True, 0.0, row.adapter, row.settings_id
            return False, value if column.direction == "lower" else -value, row.adapter, row.settings_id
    return True, 0.0, row.adapter, row.settings_id
