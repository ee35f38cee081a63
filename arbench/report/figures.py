"""The plots: in the page as inline SVG whose colours are CSS variables, so that they follow light, dark and print, and
for papers as SVG and PDF files.
"""

from __future__ import annotations

import io
import re
import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

# As on paper; for the page `_to_css` puts variables in their place, so that no other colour may be one of these.
INK, MUTED, LINE, PAPER = "#15191e", "#5b6672", "#dfe3e8", "#fefefe"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colour-blind safe palette, without its black and yellow."""
PHASES = {
    "condition": "#cc79a7",
    "prefill": "#56b4e9",
    "ar": "#0072b2",
    "inner": "#d55e00",
    "encode": "#009e73",
    "decode": "#e69f00",
    "gap": "#9a9a9b",
}
OTHER_PHASE = "#777778"
MARKERS = "osD^vPXp<>"
"""Not as many as colours, so that what shares one differs in the other."""
NAME = 34
"""Letters in a line of a name beside a bar."""
LEGEND = 110
"""Letters, with those that a handle takes, in a line of a legend."""

_CSS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    PAPER: "var(--paper)",
    **{color: f"var(--series-{index}, {color})" for index, color in enumerate(SERIES)},
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "arbench",
    "text.parse_math": False,
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "hatch.linewidth": 0.5,
}
_SVG = "http://www.w3.org/2000/svg"


FILES: Any = {"svg.fonttype": "path", "svg.hashsalt": "arbench", "pdf.fonttype": 42}
"""Files look the same without our fonts; journals ask for fonts that are embedded whole, type 42."""


@dataclass(frozen=True)
class Drawing:
    """A figure with what it shows in a line, and hover titles by the ids of its parts."""

    figure: Figure
    label: str
    titles: Mapping[str, str]

    def svg(self) -> str:
        """An `<svg>` element for HTML: no header, no metadata, no styles of its own, with hover titles."""
        with mpl.rc_context(STYLE):
            return svg(self.figure, self.label, self.titles)

    def file(self, layout: Literal["svg", "pdf"]) -> bytes:
        """The content of a file for a paper, the same for the same figure."""
        dates = {"svg": "Date", "pdf": "CreationDate"}
        buffer = io.BytesIO()
        with mpl.rc_context(STYLE | FILES):
            self.figure.savefig(buffer, format=layout, metadata={dates[layout]: None, "Title": self.label})
        return buffer.getvalue()


@dataclass(frozen=True)
class Point:
    """One setting of an adapter at one batch size. Spans are (low, high), None where unknown."""

    name: str
    setting: str
    batch: int
    seconds: float
    value: float
    seconds_span: tuple[float, float] | None
    value_span: tuple[float, float] | None


@dataclass(frozen=True)
class Bar:
    """Seconds per image of each phase of one adapter."""

    name: str
    batch: int
    phases: Mapping[str, float]


def quality_against_speed(points: Sequence[Point], quality: str, better: str | None) -> Drawing:
    """Scatter, seconds per image on a log axis; a line joins the batch sizes of a setting, dashes mark the front."""
    names, batches = _distinct(point.name for point in points), sorted({point.batch for point in points})
    with mpl.rc_context(STYLE):
        figure, axes = _figure(7.6, 4.3)
        for number, name in enumerate(names):
            color = SERIES[number % len(SERIES)]
            own = sorted((point for point in points if point.name == name), key=lambda point: point.batch)
            for setting in _distinct(point.setting for point in own):
                x, y = zip(*((p.seconds, p.value) for p in own if p.setting == setting), strict=True)
                (line,) = axes.plot(x, y, color=color, linewidth=1, alpha=0.45, zorder=2)
                line.set_gid(safe(f"line-{name}-{setting}"))
            for point in own:
                _draw_point(axes, point, color, MARKERS[batches.index(point.batch) % len(MARKERS)])
        _draw_front(axes, points, better)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(seconds_tick)
        axes.xaxis.set_minor_formatter(seconds_tick)
        axes.tick_params(axis="x", which="minor", labelsize=8.5)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.margins(0.14, 0.2)
        _name_points(axes, points, names)
        left, right = axes.get_xlim()
        subs = (3,) if right > 1000 * left else (2, 5) if right > 12 * left else (1.5, 2, 3, 5, 7)
        axes.xaxis.set_minor_locator(LogLocator(subs=subs))
        axes.set_xlabel("time per image (log scale), faster to the left")
        axes.set_ylabel(quality)
        axes.grid(True)
        handles = [
            axes.plot([], [], linestyle="", marker=MARKERS[i % len(MARKERS)], color=MUTED, label=f"batch {batch}")[0]
            for i, batch in enumerate(batches)
        ]
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, 1.12), ncols=len(batches), fontsize=9)
        titles = {identity(point): _point_title(point, quality) for point in points}
        return Drawing(figure, f"{quality} against time per image", titles)


def _draw_point(axes: Axes, point: Point, color: str, marker: str) -> None:
    x = _error(point.seconds, point.seconds_span)
    y = _error(point.value, point.value_span)
    drawn = axes.errorbar(
        point.seconds, point.value, xerr=x, yerr=y, fmt="none", ecolor=color, elinewidth=1.3, capsize=2.5
    )
    for number, part in enumerate(drawn.get_children()):
        part.set_gid(f"{identity(point)}--{number}")
    (dot,) = axes.plot(point.seconds, point.value, marker, color=color, markersize=7.5, markeredgecolor=PAPER, zorder=3)
    dot.set_gid(identity(point))


def _name_points(axes: Axes, points: Sequence[Point], names: Sequence[str]) -> None:
    """Each name at the fastest of its points: above it, or where it covers no other name and no marker."""
    covered = []
    for point in points:  # its marker and its upright bar
        low, high = point.value_span or (point.value, point.value)
        (x, bottom), (_, y), (_, top) = axes.transData.transform(
            [(point.seconds, value) for value in (low, point.value, high)]
        ).tolist()
        covered += [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5), Bbox.from_extents(x - 2, bottom, x + 2, top)]
    for name in names:
        fastest = min((point for point in points if point.name == name), key=lambda point: point.seconds)
        low, high = fastest.value_span or (fastest.value, fastest.value)
        away = 4 if fastest.value_span else 7
        spots = (
            (high, (0, away), "center", "bottom"),
            (low, (0, -away), "center", "top"),
            (fastest.value, (-9, 0), "right", "center"),
            (fastest.value, (9, 0), "left", "center"),
        )
        labels = [
            axes.annotate(
                name, (fastest.seconds, value), offset, textcoords="offset points", ha=ha, va=va, fontsize=9.5
            )
            for value, offset, ha, va in spots
        ]
        free = (text for text in labels if not any(text.get_window_extent().overlaps(box) for box in covered))
        chosen = next(free, labels[0])
        for text in labels:
            if text is not chosen:
                text.remove()
        chosen.set_gid(safe(f"name-{name}"))
        covered.append(chosen.get_window_extent())


def _draw_front(axes: Axes, points: Sequence[Point], better: str | None) -> None:
    """Joins the points that no other one beats in both speed and quality."""
    if better is None or len({point.name for point in points}) < 2:
        return
    sign = 1 if better == "higher" else -1
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.seconds, -sign * point.value)):
        if not front or sign * point.value > sign * front[-1].value:
            front.append(point)
    x = [point.seconds for point in front]
    y = [point.value for point in front]
    (line,) = axes.plot(x, y, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1, drawstyle="steps-post")
    line.set_gid("front")


def phase_bars(bars: Sequence[Bar], operation: str) -> Drawing:
    """Stacked bars of the phases in time per image, one panel per batch size."""
    batches = sorted({bar.batch for bar in bars})
    phases = [phase for phase in PHASES if any(phase in bar.phases for bar in bars)]
    phases += _distinct(phase for bar in bars for phase in bar.phases if phase not in PHASES)
    rows = max(sum(1 + wrapped(bar.name).count("\n") for bar in bars if bar.batch == batch) for batch in batches)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 0.75 + len(batches) * (0.62 + 0.36 * rows)), layout="constrained")
        panels = figure.subplots(len(batches), 1, squeeze=False)[:, 0]
        titles: dict[str, str] = {}
        for axes, batch in zip(panels, batches, strict=True):
            own = [bar for bar in bars if bar.batch == batch]
            titles |= _draw_bars(axes, own, phases)
            axes.set_title(f"{operation}, batch {batch}", loc="left", fontsize=10, fontweight="bold")
            axes.set_xlabel("ms per image", fontsize=9)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=9, handlelength=1.2)
        return Drawing(figure, f"Phases of {operation}", titles)


def _draw_bars(axes: Axes, bars: Sequence[Bar], phases: Sequence[str]) -> dict[str, str]:
    titles: dict[str, str] = {}
    left = np.zeros(len(bars))
    height = np.arange(len(bars))
    for phase in phases:
        width = np.array([1e3 * max(bar.phases.get(phase, 0.0), 0.0) for bar in bars])
        drawn = axes.barh(
            height, width, 0.62, left=left, color=PHASES.get(phase, OTHER_PHASE), label=phase,
            edgecolor=PAPER, linewidth=0.6, hatch="////" if phase == "gap" else "",
        )  # fmt: skip
        for patch, bar, amount in zip(drawn, bars, width, strict=True):
            identity = f"bar-{bar.batch}-{bar.name}-{phase}"
            patch.set_gid(safe(identity))
            titles[safe(identity)] = f"{bar.name}, batch {bar.batch}: {phase} {amount:.3g} ms per image"
        left = left + width
    for y, total in zip(height, left, strict=True):
        axes.annotate(
            f"{total:,.0f}" if total >= 100 else f"{total:.3g}",
            (total, y),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_yticks(height, [wrapped(bar.name) for bar in bars])
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    return titles


def step_curves(panels: Mapping[int, Mapping[str, NDArray[np.float64]]]) -> Drawing:
    """Time of each AR step by batch size: grows with the cache in raster order, with the scale in next-scale order."""
    names = _distinct(name for curves in panels.values() for name in curves)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 3.2), layout="constrained")
        for axes, (batch, curves) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            for name, seconds in curves.items():
                number = names.index(name)
                marker = MARKERS[number % len(MARKERS)] if len(seconds) <= 32 else "None"
                color = SERIES[number % len(SERIES)]
                steps = np.arange(1, len(seconds) + 1)
                axes.plot(steps, 1e3 * seconds, color=color, linewidth=1.4, marker=marker, markersize=4)
            axes.set_xlabel("autoregressive step", fontsize=9)
            axes.set_ylabel("ms per call", fontsize=9)
            axes.set_title(f"batch {batch}", loc="left", fontsize=10, fontweight="bold")
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.grid(True)
        handles = [Line2D([], [], color=SERIES[i % len(SERIES)], label=name) for i, name in enumerate(names)]
        fit = max(1, LEGEND // (6 + max(map(len, names))))
        figure.legend(handles=handles, loc="outside upper right", ncols=min(len(names), fit, 4), fontsize=9)
        return Drawing(figure, "Time of each autoregressive step", {})


def wrapped(name: str) -> str:
    """A name in lines that leave room for the bars beside it."""
    return textwrap.fill(name, NAME, break_on_hyphens=False)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes: Axes = figure.subplots()
    axes.set_axisbelow(True)
    return figure, axes


def seconds_tick(value: float, _: float = 0) -> str:
    for name, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= 0.9999 * size:
            return f"{value / size:g} {name}"
    return f"{value:g} s"


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _error(value: float, span: tuple[float, float] | None) -> list[list[float]] | None:
    return None if span is None else [[max(value - span[0], 0.0)], [max(span[1] - value, 0.0)]]


def safe(text: str) -> str:
    return re.sub(r"[^\w-]", "-", text)


def identity(point: Point) -> str:
    """The id of a point's marker; its bars have it with "--" and a number behind."""
    return safe(f"point-{point.name}-{point.setting}-{point.batch}")


def _point_title(point: Point, quality: str) -> str:
    return f"{point.name}, batch {point.batch}: {quality} {point.value:.4g}, {1e3 * point.seconds:.4g} ms per image"


def svg(figure: Figure, label: str, titles: Mapping[str, str]) -> str:
    """The figure as an `<svg>` element for HTML: no header, no metadata, no styles of its own, with hover titles."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ET.fromstring(buffer.getvalue())
    for parent in root.iter():
        _compact(parent)
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
        if parent.get("id") in titles:
            title = ET.Element(f"{{{_SVG}}}title")
            title.text = titles[parent.get("id") or ""]
            parent.insert(0, title)
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", label)
    return _to_css(ET.tostring(root, encoding="unicode"))


def _compact(element: ET.Element) -> None:
    """Leaves out what shows nothing: matplotlib's own ids of groups, space between elements, parts of a 100th pixel."""
    if element.tag.endswith("}g") and _OWN_ID.fullmatch(element.get("id", "")):
        del element.attrib["id"]
    if not element.tag.endswith(("}text", "}tspan")) and element.text and not element.text.strip():
        element.text = None
    if element.tail and not element.tail.strip():
        element.tail = None
    for name in _LENGTHS & element.attrib.keys():
        if "scale" in element.attrib[name] or "matrix" in element.attrib[name]:
            continue
        text = _LONG.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), element.attrib[name])
        element.set(name, " ".join(text.split()))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]


_OWN_ID = re.compile(r"[A-Za-z\d.]+_\d+")
_LONG = re.compile(r"-?\d+\.\d{3,}")
_LENGTHS = {"d", "x", "y", "transform", "width", "height", "points"}


def _to_css(svg: str) -> str:
    for color, variable in _CSS.items():
        svg = svg.replace(color, variable)
    svg = re.sub(r"font-family: 'DejaVu[^;\"]*; ", "", svg)
    svg = re.sub(r"font: ([\d.]+)px[^;\"]*'[^;\"]*", r"font-size: \1px", svg)
    return re.sub(r"font: (bold|700) ([\d.]+)px[^;\"]*'[^;\"]*", r"font-weight: 700; font-size: \2px", svg)
