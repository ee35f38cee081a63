"""What the plots show: quality against speed, phases, and single steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..spec.result import At, Metric
from ..spec.task import tasks
from . import figures
from .columns import QUALITY, Column, device
from .folders import Entry
from .rows import Key, RowKey, names, short_names
from .tables import Row, Table, bounds

LATENCY = "latency"
SWEPT = 3
"""From so many settings on, an adapter is one series of points."""
MAIN = ("sample", "decode")
"""The operations whose time counts against quality: whole calls of generators, and of tokenizers what generation pays
for."""


def quality_column(table: Table) -> Column | None:
    """The quality that is plotted: of the first number that the tasks pick for their summaries (fid, frechet, psnr),
    in the convention that most rows have; else the first column of quality."""
    columns = (column for column in table.columns if column.group == QUALITY and not column.empty)
    found = [column for column in columns if column.direction and not column.metric.at]
    known = [definition for definition in tasks().values() if definition.group == QUALITY]
    own = [definition for definition in known if table.kind in definition.kinds] or known
    for name in dict.fromkeys(pick.name for definition in own for pick in definition.summary):
        if alike := [column for column in found if column.name == name]:
            return max(alike, key=lambda column: sum(place is not None for place in _metrics(table, column)))
    return found[0] if found else None


def _metrics(table: Table, column: Column) -> list[Metric | None]:
    index = table.columns.index(column)
    return [row.places[index].metric for row in table.rows]


def scatter(entries: Sequence[Entry], table: Table) -> figures.Drawing | None:
    """The plot of quality against time per image, None where one of the two is missing."""
    points, column = speed_points(entries, table), quality_column(table)
    if not points or column is None:
        return None
    unit = f" [{column.unit}]" if column.unit else ""
    heading = f"{column.name} ({column.convention}){unit}, {column.direction} is better"
    return figures.quality_against_speed(list(points), heading, column.direction)


def speed_points(entries: Sequence[Entry], table: Table) -> dict[figures.Point, Row]:
    """The points of that plot, with the row that each belongs to."""
    column = quality_column(table)
    if column is None:
        return {}
    called = _series(row_names(entries), short_names(entry.result for entry in entries))
    quality: dict[Key, Metric] = {}
    for row, metric in zip(table.rows, _metrics(table, column), strict=True):
        if metric is not None:
            quality[row.adapter, row.settings_id] = metric
    found: dict[figures.Point, Row] = {}
    for row in table.rows:
        measured = quality.get((row.adapter, row.settings_id))
        if measured is None or measured.value is None:
            continue
        for batch, latency in _latencies(row, table).items():
            span = bounds(latency)
            point = figures.Point(
                called[row.adapter, row.settings_id, row.device],
                row.settings,
                batch,
                (latency.value or 0.0) / batch,
                measured.value,
                None if span is None else (span[0] / batch, span[1] / batch),
                bounds(measured),
            )
            found[point] = row
    order = list(dict.fromkeys(called.values()))  # the colours go by it, as in the other figures
    return dict(sorted(found.items(), key=lambda item: order.index(item[0].name)))


def row_names(entries: Sequence[Entry]) -> dict[RowKey, str]:
    """The name of each row: with the device where the same settings were run on several."""
    found = names(entry.result for entry in entries)
    rows = dict.fromkeys((e.result.adapter, e.result.settings_id, device(e.result)) for e in entries)
    several = Counter(key[:2] for key in rows if key[2])
    return {key: f"{found[key[:2]]} · {key[2]}" if several[key[:2]] > 1 and key[2] else found[key[:2]] for key in rows}


def _series(full: dict[RowKey, str], short: dict[str, str]) -> dict[RowKey, str]:
    """Names of the points: one for all settings of a swept adapter, whose points would cover each other's names."""
    settings = Counter(adapter for adapter, _ in {key[:2] for key in full})
    return {key: short[key[0]] if settings[key[0]] >= SWEPT else name for key, name in full.items()}


def _latencies(row: Row, table: Table) -> dict[int, Metric]:
    """The row's latency at each batch size, of its main operation."""
    found: dict[At, dict[int, Metric]] = {}
    for place, column in zip(row.places, table.columns, strict=True):
        at = dict(column.metric.at)
        if column.name == LATENCY and place.metric is not None and isinstance(batch := at.get("batch"), int):
            found.setdefault(at.get("operation", ""), {})[batch] = place.metric
    return next((found[name] for name in MAIN if name in found), next(iter(found.values()), {}))


def phase_figures(entries: Sequence[Entry]) -> dict[str, figures.Drawing]:
    """Stacked bars of each operation."""
    called = row_names(entries)
    bars: dict[str, list[figures.Bar]] = {}
    for entry in entries:
        name = called[entry.result.adapter, entry.result.settings_id, device(entry.result)]
        for record in entry.result.speed:
            phases = {phase.phase: phase.seconds / record.batch for phase in record.phases}
            if phases:
                bars.setdefault(record.operation, []).append(figures.Bar(name, record.batch, phases))
    return {operation: figures.phase_bars(own, operation) for operation, own in bars.items()}


def step_figure(entries: Sequence[Entry]) -> figures.Drawing | None:
    """Median time by AR step, a panel per batch size, None where nothing takes more than one step."""
    called = row_names(entries)
    curves: dict[int, dict[str, NDArray[np.float64]]] = {}
    for entry in entries:
        raw = entry.latency()
        for batch, steps in zip(raw["batch"], raw["steps"], strict=True) if raw else ():
            known = steps[:, ~np.isnan(steps).all(axis=0)]
            if known.shape[1] > 1:
                name = called[entry.result.adapter, entry.result.settings_id, device(entry.result)]
                curves.setdefault(int(batch), {})[name] = np.nanmedian(known, axis=0)
    return figures.step_curves(dict(sorted(curves.items()))) if curves else None
