"""Curves: how a number changes along a sweep of one sampling value, and where it is best.

Made of the results alone: rows of one adapter that differ in a sampling value. Imports neither torch nor matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..spec.identity import canonical_json
from ..spec.result import Metric, Result
from .columns import QUALITY, Column, ColumnKey, columns_of
from .repeats import together
from .rows import newest, numbers, origin, rows

LATENCY = "latency"
NAMES = {
    "guidance.scale": "guidance scale",
    "guidance.start": "first guidance scale",
    "guidance.until": "guided part of the steps",
    "guidance.power": "guidance power",
    "top_k": "top-k",
    "top_p": "top-p",
    "inner_steps": "inner steps",
}
"""Words for sampling fields, where the name itself is not enough."""
LEAST = 3
"""Points of a curve; two settings are two rows of the table."""


@dataclass(frozen=True)
class Spot:
    """One setting of a curve. `metrics` are those of the sweep's columns; `seconds` is time per image, None unknown."""

    x: float
    settings_id: str
    metrics: tuple[Metric | None, ...]
    seconds: float | None


@dataclass(frozen=True)
class Curve:
    """The settings of one adapter, by rising x. `rest` says what else sets it apart from its other curves."""

    adapter: str
    rest: str
    spots: tuple[Spot, ...]

    @property
    def name(self) -> str:
        short = self.adapter.rsplit("/", 1)[-1]
        return f"{short} ({self.rest})" if self.rest else short

    def known(self, index: int) -> list[tuple[float, Metric]]:
        """The swept values that a column has a number for, with the number."""
        found = ((spot.x, spot.metrics[index]) for spot in self.spots)
        return [(x, metric) for x, metric in found if metric is not None and metric.value is not None]


@dataclass(frozen=True)
class Optimum:
    """The best value of a curve, and the range of settings whose values cannot be told from it.

    Two values are told apart where the 95 % interval of their difference, of independent estimates, leaves out 0.
    Samples of equal seeds make the true interval smaller, so the range is on the safe side.
    """

    curve: Curve
    column: Column
    metric: Metric
    x: float
    low: float
    high: float
    at_end: bool
    """The best is the first or last value tried: the true optimum may lie outside."""

    @property
    def alone(self) -> bool:
        return self.low == self.high


@dataclass(frozen=True)
class Sweep:
    """Curves over one sampling field, with the quality numbers that they have values of, the main one first."""

    field: str
    columns: tuple[Column, ...]
    curves: tuple[Curve, ...]
    batch: int | None
    """Of the times per image."""

    @property
    def name(self) -> str:
        return NAMES.get(self.field, self.field.removeprefix("extra.").replace("_", " "))

    @property
    def optima(self) -> list[Optimum]:
        """Of each curve and number that has a better end, column by column."""
        found = [optimum(curve, index, column) for index, column in enumerate(self.columns) for curve in self.curves]
        return [each for each in found if each is not None]


def optimum(curve: Curve, index: int, column: Column) -> Optimum | None:
    """None without a direction, or with fewer than two values."""
    known = curve.known(index)
    if column.direction is None or len(known) < 2:
        return None
    sign = 1 if column.direction == "higher" else -1
    place = max(range(len(known)), key=lambda at: sign * (known[at][1].value or 0.0))
    x, best = known[place]
    alike = [other for other, metric in known if not told_apart(best, metric)] or [x]
    return Optimum(curve, column, best, x, min(*alike, x), max(*alike, x), place in (0, len(known) - 1))


def told_apart(one: Metric, two: Metric) -> bool:
    """Whether the 95 % interval of the difference of two independent estimates leaves out 0.

    Each side's spread is the half of its interval that faces the other value. Without intervals, whether they differ.
    """
    assert one.value is not None
    assert two.value is not None
    if one is two:
        return False
    if one.interval is None or two.interval is None:
        return one.value != two.value
    if one.value < two.value:
        up, down = one.interval.high - one.value, two.value - two.interval.low
    else:
        up, down = two.interval.high - two.value, one.value - one.interval.low
    return abs(two.value - one.value) > math.hypot(up, down)


def sweeps(results: Iterable[Result]) -> list[Sweep]:
    """Every sampling field that some adapter has three values of and more, with its curves."""
    kept, _ = newest([result for result in results if result.sampling is not None], lambda result: result)
    kept = together(kept)
    columns = [each for each in columns_of(kept)[0] if each.group == QUALITY and each.shown and not each.metric.at]
    grouped = rows(kept)
    settings = {key: _settings(members) for key, members in grouped.items()}
    held = {key: numbers(members) for key, members in grouped.items()}
    fields = dict.fromkeys(field for own in settings.values() for field in own)
    found = []
    for field in fields:
        curves, batch = _curves(field, grouped, settings, held, columns)
        spots = [spot for curve in curves for spot in curve.spots]
        filled = [index for index in range(len(columns)) if any(spot.metrics[index] for spot in spots)]
        if curves and filled:
            found.append(Sweep(field, tuple(columns[index] for index in filled), tuple(_only(curves, filled)), batch))
    return found


def _only(curves: Sequence[Curve], filled: Sequence[int]) -> Iterator[Curve]:
    for curve in curves:
        spots = (
            Spot(spot.x, spot.settings_id, tuple(spot.metrics[index] for index in filled), spot.seconds)
            for spot in curve.spots
        )
        yield Curve(curve.adapter, curve.rest, tuple(spots))


def _settings(members: Sequence[Result]) -> dict[str, Any]:
    """Sampling values by dotted name."""
    sampling = next(result.sampling for result in members if result.sampling is not None)
    return sampling.flat()


def _curves(
    field: str,
    grouped: Mapping[tuple[str, str, str], Sequence[Result]],
    settings: Mapping[tuple[str, str, str], Mapping[str, Any]],
    held: Mapping[tuple[str, str, str], Mapping[ColumnKey, Metric]],
    columns: Sequence[Column],
) -> tuple[list[Curve], int | None]:
    """Rows of one adapter, weights and machine that differ in `field` alone; if none, in others along with it."""
    batch = _batch(grouped.values())
    alike: dict[str, list[tuple[str, str, str]]] = {}
    for key, members in grouped.items():
        if _is_number(settings[key].get(field)):
            alike.setdefault(origin(members), []).append(key)
    curves = []
    for keys in alike.values():
        others = _varying(field, [settings[key] for key in keys])
        lines: dict[str, list[tuple[str, str, str]]] = {}
        for key in keys:
            lines.setdefault(canonical_json([settings[key].get(name) for name in others]), []).append(key)
        if not any(len(line) >= LEAST for line in lines.values()):
            if others and not _first_varying(field, [settings[key] for key in keys]):
                continue
            lines = {"": keys}  # paired lists: one line along the first of them
        for line in lines.values():
            spots = [_spot(settings[key][field], key, grouped[key], held[key], columns, batch) for key in line]
            if len({spot.x for spot in spots}) >= LEAST and len({spot.x for spot in spots}) == len(spots):
                rest = "" if len(lines) == 1 else _words({name: settings[line[0]].get(name) for name in others})
                curves.append(Curve(line[0][0], rest, tuple(sorted(spots, key=lambda spot: spot.x))))
    return curves, batch


def _varying(field: str, settings: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for own in settings for name in own if name != field)
    return [name for name in names if len({canonical_json(own.get(name)) for own in settings}) > 1]


def _first_varying(field: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    """Whether `field` comes first of the numbers that vary."""
    for name in settings[0]:
        if len({canonical_json(own.get(name)) for own in settings}) > 1 and _is_number(settings[0][name]):
            return name == field
    return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _spot(
    x: float,
    key: tuple[str, str, str],
    members: Sequence[Result],
    held: Mapping[ColumnKey, Metric],
    columns: Sequence[Column],
    batch: int | None,
) -> Spot:
    metrics = tuple(held.get(column.key) for column in columns)
    seconds = None if batch is None else _latencies(members).get(batch)
    return Spot(x, key[1], metrics, None if seconds is None or batch is None else seconds / batch)


def _latencies(members: Sequence[Result]) -> dict[int, float]:
    """Seconds of a call by batch size."""
    return {
        int(metric.at["batch"]): metric.value
        for result in members
        for metric in result.metrics
        if metric.name == LATENCY and metric.value is not None and isinstance(metric.at.get("batch"), int)
    }


def _batch(grouped: Iterable[Sequence[Result]]) -> int | None:
    """The smallest batch size that was timed."""
    return min((batch for members in grouped for batch in _latencies(members)), default=None)


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{NAMES.get(name, name.replace('_', ' '))} {'off' if value is None else value}"
        for name, value in settings.items()
    )
