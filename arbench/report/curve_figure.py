"""The figure of a sweep: each quality number along it, and speed against quality."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

from ..spec.result import Metric
from .columns import Column
from .curves import Sweep
from .figures import MARKERS, MUTED, PAPER, SERIES, STYLE, Drawing, safe, seconds_tick
from .tables import bounds

PANELS = 6
"""Numbers that get a panel, the main ones first."""
WIDE = 8.0
"""From this ratio of largest to smallest value on, the axis is logarithmic."""


def panels(sweep: Sweep) -> int:
    """How many panels its figure has."""
    return min(len(sweep.columns), PANELS) + _timed(sweep)


def _timed(sweep: Sweep) -> bool:
    return any(spot.seconds is not None for curve in sweep.curves for spot in curve.spots)


def figure(sweep: Sweep) -> Drawing:
    """Panels of numbers against the swept value, then one of quality against time per image."""
    shown, timed = range(min(len(sweep.columns), PANELS)), _timed(sweep)
    count = panels(sweep)
    across = min(count, 3)
    down = -(-count // across)
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(3.1 * across if across > 1 else 4.6, 2.7 * down + 0.4), layout="constrained")
        places: list[Axes] = list(drawing.subplots(down, across, squeeze=False).flat)
        titles: dict[str, str] = {}
        for axes, index in zip(places, shown, strict=False):
            titles |= _along(axes, sweep, index)
        if timed:
            _against_time(places[len(shown)], sweep)
        for axes in places[count:]:
            axes.remove()
        handles = [
            Line2D([], [], color=_color(number), marker=_marker(number), label=curve.name)
            for number, curve in enumerate(sweep.curves)
        ]
        handles.append(Line2D([], [], linestyle="", marker="o", markersize=11, mfc="none", color=MUTED, label="best"))
        drawing.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=9)
        return Drawing(drawing, f"Quality along {sweep.name}", titles)


def _along(axes: Axes, sweep: Sweep, index: int) -> dict[str, str]:
    """One number against the swept value, with intervals; a ring around each curve's best value."""
    column, titles = sweep.columns[index], dict[str, str]()
    best = {each.curve.name: each.x for each in sweep.optima if each.column is column}
    for number, curve in enumerate(sweep.curves):
        known = [
            (spot.x, metric) for spot in curve.spots if (metric := spot.metrics[index]) and metric.value is not None
        ]
        if not known:
            continue
        x, y = [at for at, _ in known], [metric.value or 0.0 for _, metric in known]
        spread = [_spread(metric) for _, metric in known]
        error = [[low for low, _ in spread], [high for _, high in spread]]
        axes.errorbar(x, y, yerr=error, color=_color(number), linewidth=1.4, elinewidth=1, capsize=2)
        for at, value in zip(x, y, strict=True):
            (dot,) = axes.plot(
                at, value, _marker(number), color=_color(number), markersize=5.5, markeredgecolor=PAPER, zorder=3
            )
            identity = safe(f"curve-{sweep.field}-{index}-{curve.name}-{at:g}")
            dot.set_gid(identity)
            titles[identity] = f"{curve.name}, {sweep.name} {at:g}: {column.words} {value:.4g}"
            if best.get(curve.name) == at:
                axes.plot(at, value, "o", markersize=11, mfc="none", color=_color(number), zorder=4)
    _swept_axis(axes, sweep)
    axes.set_title(f"{column.words} {column.arrow}".rstrip(), loc="left", fontsize=9.5, fontweight="bold")
    if column.unit:
        axes.set_ylabel(column.unit, fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.margins(0.08, 0.14)
    axes.grid(True)
    return titles


def _against_time(axes: Axes, sweep: Sweep) -> None:
    """The main number against time per image, the settings of a curve joined in order and named by their value."""
    column = sweep.columns[0]
    for number, curve in enumerate(sweep.curves):
        known = [
            (spot.x, spot.seconds, metric.value)
            for spot in curve.spots
            if spot.seconds is not None and (metric := spot.metrics[0]) and metric.value is not None
        ]
        axes.plot(
            [seconds for _, seconds, _ in known],
            [value for _, _, value in known],
            color=_color(number),
            linewidth=1.2,
            marker=_marker(number),
            markersize=5.5,
            markeredgecolor=PAPER,
        )
        for x, seconds, value in known:
            axes.annotate(f"{x:g}", (seconds, value), (4, 4), textcoords="offset points", fontsize=8, color=MUTED)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(seconds_tick)
    axes.xaxis.set_minor_formatter(seconds_tick)
    axes.tick_params(axis="x", which="both", labelsize=8)
    low, high = axes.get_xlim()
    subs = (2, 5) if high > 4 * low else (1.5, 2, 3, 5, 7)
    axes.xaxis.set_minor_locator(NullLocator() if high > 30 * low else LogLocator(subs=subs))
    axes.set_xlabel(f"time per image, batch {sweep.batch} (log scale)", fontsize=9)
    axes.set_title(
        f"{column.words} {column.arrow} against time".replace("  ", " "), loc="left", fontsize=9.5, fontweight="bold"
    )
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.margins(0.14, 0.14)
    axes.grid(True)


def _swept_axis(axes: Axes, sweep: Sweep) -> None:
    values = sorted({spot.x for curve in sweep.curves for spot in curve.spots})
    axes.set_xlabel(sweep.name, fontsize=9)
    if values[0] > 0 and values[-1] >= WIDE * values[0]:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(FixedLocator(_spaced(values)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    elif len(values) <= 8:
        axes.set_xticks(values, [f"{value:g}" for value in values])


def _spaced(values: Sequence[float]) -> list[float]:
    """Those far enough from the one before for a label on a logarithmic axis."""
    found: list[float] = []
    for value in values:
        if not found or value >= found[-1] * (values[-1] / values[0]) ** 0.08:
            found.append(value)
    return found


def _value(metric: Metric, column: Column) -> float:
    return metric.value or 0.0


def _spread(metric: Metric) -> tuple[float, float]:
    span = bounds(metric)
    if span is None or metric.value is None:
        return 0.0, 0.0
    return max(metric.value - span[0], 0.0), max(span[1] - metric.value, 0.0)


def _color(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]
