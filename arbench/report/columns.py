"""Columns: which numbers may be compared with each other, in what order they stand, and what they are called.

Numbers share a column if these are alike:
- the group: that of the task's definition, or the task's name where none is installed. A score of a run's cell counts
  as the cell's own task, one of other images as "Quality": it stands in the column of the run's own number;
- the key: name, convention, reference, and what it was measured at;
- the unit;
- the protocol: see `protocol`.

Imports neither torch nor matplotlib: the runner writes its tables with it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..spec.result import OWN, Direction, Measure, Metric, MetricKey, Result
from ..spec.task import MetricInfo, prompts_in, tasks

QUALITY = "Quality"
SCORE = "score"
"""The task of what `arbench score` writes. Its parameter "cell" is the task of the run's cell that it is of, if any."""
SCORED = {"mode": "parity", "kid_subset_size": None}
"""Parameters of an evaluation that decide a number and are not in its key, with their defaults."""
MEASURES: tuple[Measure, ...] = ("quality", "speed", "memory")
UNLISTED = 1000
"""Rank of metrics that no definition lists: after all that one does."""

ColumnKey = tuple[str, MetricKey, str, str]
"""Group, the metric's own key, unit, protocol."""

_RESERVED = re.compile(r"[\[\],=]")


@dataclass(frozen=True)
class Column:
    """Metrics that may be compared with each other. `note` tells apart columns that share name and place."""

    group: str
    metric: MetricKey
    unit: str
    protocol: str
    """JSON of what else must be alike."""
    task: str
    """One of those that report it."""
    measure: Measure = "quality"
    direction: Direction | None = None
    reference: str = ""
    """The name of what it was compared with."""
    how: str = ""
    shown: bool = True
    """In the main table from the start."""
    empty: bool = False
    """It holds only nulls."""
    rank: int = UNLISTED
    """Place in its definition's list."""
    note: str = ""
    unguided: bool = False
    """The same number of the row that differs in nothing but that its guidance is off."""
    shown_unit: str = ""
    scale: float = 1.0

    @property
    def key(self) -> ColumnKey:
        return self.group, self.metric, self.unit, self.protocol

    @property
    def name(self) -> str:
        return self.metric.name

    @property
    def convention(self) -> str:
        return self.metric.convention

    @property
    def source(self) -> str:
        """The convention where it tells anything: of timings and memory, of which all are our own, it is ""."""
        return self.convention if self.measure == "quality" or self.convention != OWN else ""

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", None: ""}[self.direction]

    @property
    def below(self) -> str:
        """What stands below the name in a heading: where it was measured, and what tells it from its like."""
        return ", ".join(
            part for part in (self.metric.place, self.note, "no guidance" if self.unguided else "") if part
        )

    @property
    def words(self) -> str:
        """On one line: "fid (adm)", "latency (batch 16, sample)"."""
        inner = ", ".join(part for part in (self.source, self.below) if part)
        return f"{self.name} ({inner})" if inner else self.name


def group_of(task: str) -> str:
    """The group of a task's columns."""
    definition = tasks().get(task)
    return definition.group if definition else QUALITY if task == SCORE else task


def task_of(result: Result) -> str:
    """The task whose numbers a result holds: of a score of a run's cell, that cell's."""
    cell = result.parameters.get("cell") if result.task == SCORE else None
    return str(cell["task"]) if isinstance(cell, dict) and "task" in cell else result.task


def images(result: Result) -> int | None:
    """How many samples its numbers are of, None where that is not their measure (timings)."""
    if result.samples is not None and result.samples.n:
        return result.samples.n
    n = result.parameters.get("n")
    return n if isinstance(n, int) else None


def protocol(result: Result, metric: Metric) -> dict[str, Any]:
    """What a number depends on besides the adapter, its settings and the number's own key.

    Of a task's parameters those that decide, with the defaults of those that are not stated; the number of images and
    the seed; the device for timings and memory; the digest of what prompts say, wherever their file lies. A number
    without a reference in a task that is given images depends on these: their digests. Where no definition is
    installed all parameters count.
    """
    found, task = dict(result.parameters), task_of(result)
    definition = tasks().get(task)
    if result.task == SCORE:
        asked = {name: found.get(name, default) for name, default in SCORED.items()}
        found = (found.get("cell") or {}) | asked
    if definition:
        fields = definition.spec.model_fields
        left_out = definition.transport | definition.in_key
        found = {name: field.default for name, field in fields.items() if not field.is_required()} | found
        found = {name: value for name, value in found.items() if name not in left_out}
    for name in ("task", "n"):
        found.pop(name, None)
    found |= {"images": images(result), "seed": result.load.get("seed", 0)}
    data = result.provenance.data if result.provenance else {}
    given = definition.counted != "" and definition.counts == "images" if definition else task != SCORE
    if prompts := prompts_in(data):
        found["digest of prompts"] = ", ".join(sorted(digest[:12] for digest in prompts.values()))
    if metric.reference is None and given:
        found |= {f"digest of {name}": digest[:12] for name, digest in data.items()}
    if metric.measure != "quality":
        found["device"] = device(result)
        found.pop("images")
    return {name: value for name, value in found.items() if value is not None}


def device(result: Result) -> str:
    return result.provenance.device if result.provenance else ""


def column_of(result: Result, metric: Metric) -> Column:
    """The column that `metric` belongs to."""
    return _column(result, metric, _protocol_text(result, metric))


def columns_in(result: Result) -> Iterator[tuple[Column, Metric]]:
    """Each metric of a result with its column."""
    protocols: dict[tuple[bool, Measure], str] = {}  # all that they depend on besides the result
    for metric in result.metrics:
        kind = metric.reference is None, metric.measure
        if kind not in protocols:
            protocols[kind] = _protocol_text(result, metric)
        yield _column(result, metric, protocols[kind]), metric


def _protocol_text(result: Result, metric: Metric) -> str:
    return json.dumps(protocol(result, metric), sort_keys=True, default=str)


def _column(result: Result, metric: Metric, protocol: str) -> Column:
    info, rank = _info(result, metric.name)
    return Column(
        group=group_of(task_of(result)),
        metric=metric.key,
        unit=metric.unit,
        protocol=protocol,
        task=task_of(result),
        measure=metric.measure,
        direction=metric.direction,
        reference=metric.reference.name if metric.reference else "",
        how=metric.how,
        shown=(info is None or info.column) and not _detail(metric, result),
        rank=rank,
    )


def _info(result: Result, name: str) -> tuple[MetricInfo | None, int]:
    """What is known of a metric, and its rank: from its task, else from a task of the same group, whose come after."""
    group, own = group_of(task_of(result)), task_of(result)
    alike = [definition for definition in tasks().values() if definition.group == group]
    alike.sort(key=lambda definition: (definition.name != own, result.kind not in definition.kinds))
    for place, definition in enumerate(alike):
        if info := definition.info(name):
            return info, 100 * place + definition.metrics.index(info)
    return None, UNLISTED


def _detail(metric: Metric, result: Result) -> bool:
    """Whether it is of a part (one level, the originals) of what another number of that name is of.

    Distances to and from reconstructions of the reference are not: they are read beside the one to the reference.
    """
    if "sets" in metric.at and metric.direction == "lower":
        return False
    whole = metric.key._replace(reference="", at=())
    return bool(metric.at) and any(other.key._replace(reference="") == whole for other in result.metrics)


def columns_of(results: Iterable[Result]) -> tuple[list[Column], list[Column]]:
    """Columns that hold a value, and those that hold only nulls, both in order and with their notes."""
    found: dict[tuple[Any, ...], Column] = {}
    filled: set[tuple[Any, ...]] = set()
    for result in results:
        for column, metric in columns_in(result):
            known = found.setdefault(column.key, column)
            if column.shown and not known.shown:
                found[column.key] = replace(known, shown=True)
            if metric.value is not None:
                filled.add(column.key)
    columns = ordered([column for key, column in found.items() if key in filled])
    empty = ordered([column for key, column in found.items() if key not in filled])
    return (
        [replace(column, note=_note(column, columns)) for column in columns],
        [replace(column, note=_note(column, [*columns, *empty]), empty=True) for column in empty],
    )


def ordered(columns: Sequence[Column]) -> list[Column]:
    """By group (quality first, then as the tasks are listed, timings, memory), convention, and rank; nulls last.

    Within a group the convention comes first whose best number its definition lists first.
    """
    order = list(dict.fromkeys([QUALITY, *(definition.group for definition in tasks().values())]))
    groups: dict[str, tuple[int, int]] = {}
    conventions: dict[tuple[str, str], tuple[bool, bool, int]] = {}
    for column in sorted(columns, key=lambda column: (column.empty, column.rank)):
        place = order.index(column.group) if column.group in order else len(order)
        groups.setdefault(column.group, (MEASURES.index(column.measure), place))
        first = column.empty, not column.shown, column.rank
        conventions.setdefault((column.group, column.convention), first)

    def key(item: tuple[int, Column]) -> tuple[Any, ...]:
        index, column = item
        at = tuple((name, isinstance(value, str), value) for name, value in column.metric.at)
        convention = *conventions[column.group, column.convention], column.convention, column.empty
        return *groups[column.group], column.group, *convention, column.rank, column.name, at, index

    return [column for _, column in sorted(enumerate(columns), key=key)]


def differences(column: Column, columns: Iterable[Column]) -> dict[str, str]:
    """What sets a column apart from others of its name, convention and place: reference, unit, protocol."""

    def like(other: Column) -> tuple[Any, ...]:
        return other.name, other.convention, other.metric.at

    others = [other for other in columns if like(other) == like(column)]
    parts: dict[str, str] = {}
    if len({other.metric.reference for other in others}) > 1:
        alone = len({other.metric.reference for other in others if other.reference == column.reference}) == 1
        parts["reference"] = column.reference if alone else f"{column.reference} {column.metric.reference[:8]}"
    if len({other.unit for other in others}) > 1:
        parts["unit"] = column.unit or "none"
    protocols = [json.loads(other.protocol) for other in others]
    own = json.loads(column.protocol)
    for key in sorted({key for other in protocols for key in other}):
        if len({json.dumps(other.get(key)) for other in protocols}) > 1:
            parts[key] = str(own.get(key, "none"))
    return parts


def _note(column: Column, columns: Sequence[Column]) -> str:
    parts = differences(column, (other for other in columns if other.group == column.group))
    return ", ".join(f"{name} {value}" for name, value in parts.items())


def labels(columns: Sequence[Column]) -> list[str]:
    """A name of its own for each column, for programs: "adm/fid", "latency[batch=1,operation=sample]"."""

    def base(column: Column) -> str:
        return f"{column.convention}/{column.name}" if column.convention != OWN else column.name

    found: list[str] = []
    for column in columns:
        at = {name: f"{value}" for name, value in column.metric.at}
        alike = [other for other in columns if base(other) == base(column) and other.metric.at == column.metric.at]
        if len({other.group for other in alike}) > 1:
            at["group"] = column.group.lower()
        at |= differences(column, [other for other in alike if other.group == column.group])
        if column.unguided:
            at["guidance"] = "off"
        inner = ",".join(f"{name}={_RESERVED.sub(' ', value)}" for name, value in at.items())
        found.append(f"{base(column)}[{inner}]" if inner else base(column))
    seen: Counter[str] = Counter()
    for index, label in enumerate(found):
        seen[label] += 1
        if seen[label] > 1:
            found[index] = f"{label}#{seen[label]}"
    return found
