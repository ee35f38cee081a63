"""Figures of speed and memory: throughput and memory against batch, response against arrival rate, and the roofline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from ..spec.result import Metric
from .figures import LEGEND, MARKERS, MUTED, SERIES, STYLE, Drawing
from .folders import Entry
from .rows import names
from .tables import bounds

Named = Sequence[tuple[str, Entry]]


@dataclass
class Line:
    """Points of one adapter: x, y, and (low, high) of y where known."""

    name: str
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    spans: list[tuple[float, ...] | None] = field(default_factory=list)

    def add(self, x: float, y: float, span: tuple[float, ...] | None) -> None:
        self.x.append(x)
        self.y.append(y)
        self.spans.append(span)


@dataclass(frozen=True)
class Panel:
    """A plot on two logarithmic axes. roofs: (bandwidth, matrix rate) of devices."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    roofs: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class _Curve:
    """A number along one of the things it was measured at."""

    title: str
    metric: str
    along: str
    x: str
    y: str
    scale: float = 1.0


CURVES = (
    _Curve("throughput", "images-per-second", "batch", "images in a call", "images/s"),
    _Curve("peak memory", "peak-memory", "batch", "images in a call", "GB", 1e-9),
    _Curve("95 % of responses", "response-p95", "rate", "arrivals per second", "s"),
)
OPERATIONS = ("sample", "decode", "")
"""Which operation's numbers are drawn: the first of these that an adapter has."""


def panels(entries: Sequence[Entry]) -> list[Panel]:
    """Those of which there is a line of two points at least, and the roofline where there is a point."""
    called = names(entry.result for entry in entries)
    named = [(called[entry.result.adapter, entry.result.settings_id], entry) for entry in entries]
    found = [_panel(named, curve) for curve in CURVES]
    roofline = _roofline(named)
    return [*(panel for panel in found if panel.lines), *([roofline] if roofline.lines else [])]


def figure(drawn: Sequence[Panel]) -> Drawing | None:
    """The panels side by side, two in a row; None without any."""
    if not drawn:
        return None
    known = list(dict.fromkeys(line.name for panel in drawn for line in panel.lines))
    rows = (len(drawn) + 1) // 2
    with mpl.rc_context(STYLE):
        whole = Figure(figsize=(7.6, 3.0 * rows + 0.3), layout="constrained")
        places = whole.subplots(rows, min(len(drawn), 2), squeeze=False).flatten()
        for axes, panel in zip(places, drawn, strict=False):
            _draw(axes, panel, known)
        for axes in places[len(drawn) :]:
            axes.set_axis_off()
        handles = [Line2D([], [], color=SERIES[i % len(SERIES)], label=name) for i, name in enumerate(known)]
        fit = max(1, LEGEND // (6 + max(map(len, known))))
        whole.legend(handles=handles, loc="outside upper right", ncols=min(len(known), fit, 4), fontsize=9)
        return Drawing(whole, "Throughput, memory, responses and distance from the limit", {})


def _panel(named: Named, curve: _Curve) -> Panel:
    lines = []
    for name, entry in named:
        found = [metric for metric in _of_one_operation(entry, curve.metric) if curve.along in metric.at]
        points = sorted((float(metric.at[curve.along]), metric) for metric in found if metric.value is not None)
        line = Line(name)
        for x, metric in points:
            span = bounds(metric)
            line.add(x, curve.scale * float(metric.value or 0.0), span and tuple(curve.scale * each for each in span))
        if len(line.x) > 1:
            lines.append(line)
    return Panel(curve.title, curve.x, curve.y, tuple(lines))


def _of_one_operation(entry: Entry, name: str) -> list[Metric]:
    """The numbers of this name, of the first of `OPERATIONS` that there is."""
    found: dict[str, list[Metric]] = {}
    for metric in entry.result.metrics:
        if metric.name == name:
            found.setdefault(str(metric.at.get("operation", "")), []).append(metric)
    return next((found[operation] for operation in OPERATIONS if operation in found), [])


def _roofline(named: Named) -> Panel:
    """FLOP per second reached against FLOP per byte that must move, a point for each batch size."""
    lines, roofs = [], []
    for name, entry in named:
        flops, traffic, latency = (
            {metric.at.get("batch"): metric.value for metric in _of_one_operation(entry, each)}
            for each in ("flops", "traffic", "latency")
        )
        line = Line(name)
        for batch, count in flops.items():
            moved, seconds = traffic.get(batch), latency.get(batch)
            if count and moved and seconds:
                line.add(count / moved, 1e-12 * count / seconds, None)
        if line.x:
            lines.append(line)
        rates = {metric.name: metric.value for metric in entry.result.metrics}
        bandwidth, matrix = rates.get("copy-bandwidth"), rates.get("matrix-rate")
        if bandwidth and matrix:
            roofs.append((bandwidth, matrix))
    return Panel("roofline", "FLOP per byte", "TFLOP/s", tuple(lines), tuple(dict.fromkeys(roofs)))


def _draw(axes: Axes, panel: Panel, known: Sequence[str]) -> None:
    for line in panel.lines:
        number = known.index(line.name)
        color, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
        axes.plot(line.x, line.y, color=color, linewidth=1.4, marker=marker, markersize=4)
        for x, span in zip(line.x, line.spans, strict=True):
            if span is not None:
                axes.plot([x, x], span, color=color, linewidth=1)
    lowest = min(x for line in panel.lines for x in line.x)
    highest = max(x for line in panel.lines for x in line.x)
    for bandwidth, matrix in panel.roofs:
        corner = matrix / bandwidth
        across = [min(lowest, corner) / 2, corner, max(highest, corner) * 2]
        allowed = [1e-12 * min(matrix, bandwidth * each) for each in across]
        axes.plot(across, allowed, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
        low, high = axis.get_view_interval()
        if math.floor(math.log10(high)) <= math.ceil(math.log10(low)):  # one power of ten at most: others are named
            axis.set_major_locator(MaxNLocator(4) if high < 10 * low else LogLocator(subs=(1, 2, 5)))
            axis.set_minor_locator(NullLocator())
    axes.set_xlabel(panel.x, fontsize=9)
    axes.set_ylabel(panel.y, fontsize=9)
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
    axes.grid(True)
