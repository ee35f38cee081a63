"""The rate-distortion figure of an audit: tokenizers beside the curves of JPEG and WebP on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from ..spec.card import Card
from ..spec.result import Metric, Result
from .audit_images import first, images_of
from .figures import INK, MARKERS, MUTED, PAPER, SERIES, STYLE, Drawing, safe
from .folders import Entry
from .rows import names

LIKENESSES = {
    "psnr": "PSNR in dB, higher is better",
    "ssim": "SSIM, higher is better",
    "lpips": "LPIPS, lower is better",
}
"""What stands against the rate, and the words on its axis."""
CODECS: Mapping[str, tuple[Literal["-", "--"], str]] = {"JPEG": ("-", "JPEG"), "WEBP": ("--", "WebP")}
"""Line and name."""
COLUMNS = 3
"""Of the legend."""
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Rated:
    """A tokenizer: bits per pixel, its likenesses by name, and (bits per pixel, PSNR) of its prefixes, if any."""

    name: str
    rate: float
    values: Mapping[str, Metric]
    prefixes: Points


@dataclass(frozen=True)
class Plane:
    """Tokenizers and codecs on the same images. curves: by likeness and codec. without: names that have no rate."""

    images: str
    n: int
    rated: tuple[Rated, ...]
    without: tuple[str, ...]
    curves: Mapping[tuple[str, str], Points]
    reasons: tuple[str, ...]


def planes(entries: Iterable[Entry], cards: Mapping[str, Card]) -> list[Plane]:
    """One for each set of images that the task `rate` was done on."""
    results = [entry.result for entry in entries if entry.result.kind == "tokenizer"]
    called = names(results)
    grouped: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        own = first(result.metrics, "rate-psnr")
        if result.task == "rate" and own is not None and own.value is not None:
            grouped.setdefault((images_of(result, cards.get(result.adapter)), own.n), []).append(result)
    found = []
    for (images, n), together in grouped.items():
        rated, without = [], []
        for result in together:
            name = called[result.adapter, result.settings_id]
            rate = first(result.metrics, "bits-per-pixel")
            if rate is None or rate.value is None:
                without.append(name)
                continue
            known = {kind: first(result.metrics, f"rate-{kind}") for kind in LIKENESSES}
            values = {kind: metric for kind, metric in known.items() if metric is not None and metric.value is not None}
            prefixes = _prefixes(result, results, rate.value, images, n, cards)
            rated.append(Rated(name, rate.value, values, prefixes))
        reasons = {
            f"{kind.upper()}: {metric.reason}"
            for kind in LIKENESSES
            if (metric := first(together[0].metrics, f"rate-{kind}")) is not None and metric.value is None
        }
        found.append(
            Plane(images, n, tuple(rated), tuple(without), _curves(together[0].metrics), tuple(sorted(reasons)))
        )
    return found


def _curves(metrics: Sequence[Metric]) -> dict[tuple[str, str], Points]:
    """(bits per pixel, value) of each likeness and codec, the smallest files first."""
    bits = {
        (metric.at.get("codec"), metric.at.get("quality")): metric.value
        for metric in metrics
        if metric.name == "codec-bits"
    }
    found: dict[tuple[str, str], Points] = {}
    for kind in LIKENESSES:
        for codec in CODECS:
            points = [
                (size, metric.value)
                for metric in metrics
                if metric.name == f"codec-{kind}" and metric.at.get("codec") == codec and metric.value is not None
                if (size := bits.get((codec, metric.at.get("quality")))) is not None
            ]
            if points:
                found[kind, codec] = tuple(sorted(points))
    return found


def _prefixes(
    of: Result, results: Sequence[Result], rate: float, images: str, n: int, cards: Mapping[str, Card]
) -> Points:
    """(bits per pixel, PSNR) of the tokenizer's prefixes on the same images; tokens or levels count as their share."""
    for result in results:
        same = (result.adapter, result.settings_id) == (of.adapter, of.settings_id)
        if result.task != "prefix" or not same or images_of(result, cards.get(result.adapter)) != images:
            continue
        known = [m for m in result.metrics if m.name == "prefix-psnr" and m.value is not None and m.n == n]
        whole = max((float(m.at["tokens"]) for m in known if "tokens" in m.at), default=0.0)
        shares = [
            (float(m.at["share"]) if "share" in m.at else float(m.at.get("tokens", 0)) / whole, m.value)
            for m in known
            if "share" in m.at or whole
        ]
        return tuple(sorted((share * rate, value) for share, value in shares if value is not None))
    return ()


def figure(plane: Plane) -> Drawing | None:
    """A panel for each likeness that there are numbers of; None without a codec's curve."""
    kinds = [kind for kind in LIKENESSES if any((kind, codec) in plane.curves for codec in CODECS)]
    if not kinds:
        return None
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(4.4 * len(kinds), 4.1), layout="constrained")
        titles: dict[str, str] = {}
        for kind, axes in zip(kinds, drawing.subplots(1, len(kinds), squeeze=False)[0], strict=True):
            _panel(axes, plane, kind, titles)
        handles = [Line2D([], [], color=INK, linestyle=line, label=name) for line, name in CODECS.values()]
        handles += [
            Line2D([], [], linestyle="none", color=color, marker=marker, markeredgecolor=INK, label=rated.name)
            for rated, (color, marker) in zip(plane.rated, _looks(plane), strict=True)
        ]
        drawing.legend(handles=handles, loc="outside upper left", ncols=COLUMNS, fontsize=9)
        return Drawing(drawing, "Likeness of reconstructions against bits per pixel", titles)


def _looks(plane: Plane) -> list[tuple[str, str]]:
    """Colour and marker of each tokenizer: the marker alone tells them apart, for print in grey."""
    count = len(plane.rated)
    return [(SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]) for place in range(count)]


def _panel(axes: Axes, plane: Plane, kind: str, titles: dict[str, str]) -> None:
    for codec, (line, name) in CODECS.items():
        points = plane.curves.get((kind, codec), ())
        if points:
            axes.plot(*zip(*points, strict=True), linestyle=line, color=INK, linewidth=1.3, zorder=1)
            axes.annotate(
                name, points[0], xytext=(0, -4), textcoords="offset points", ha="center", va="top", fontsize=8.5
            )
    for number, (rated, (color, marker)) in enumerate(zip(plane.rated, _looks(plane), strict=True)):
        if kind == "psnr" and len(rated.prefixes) > 1:
            axes.plot(*zip(*rated.prefixes, strict=True), ":", color=MUTED, linewidth=1.1, zorder=2)
            axes.plot(
                *zip(*rated.prefixes, strict=True), marker, color=PAPER, markeredgecolor=color, markersize=4, zorder=2
            )
        if kind not in rated.values:
            continue
        value = rated.values[kind].value or 0.0
        (dot,) = axes.plot(rated.rate, value, marker, color=color, markersize=8, markeredgecolor=INK, zorder=3)
        identity = safe(f"distortion-{plane.images}-{kind}-{number}")
        dot.set_gid(identity)
        titles[identity] = f"{rated.name}: {kind.upper()} {value:.4g} at {rated.rate:.3g} bits per pixel"
    rates = [x for (of, _), points in plane.curves.items() if of == kind for x, _ in points]
    rates += [rated.rate for rated in plane.rated if kind in rated.values]
    rates += [x for rated in plane.rated if kind == "psnr" for x, _ in rated.prefixes]
    low, high = min(rates), max(rates)
    axes.set_xscale("log", base=2)
    ticks = [2.0**power for power in range(-12, 12) if low / 1.5 <= 2.0**power <= high * 1.5]
    axes.xaxis.set_major_locator(FixedLocator(ticks[:: max(1, -(-len(ticks) // 7))]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axes.set_xlim(low / 1.5, high * 1.9)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("bits per pixel", fontsize=9)
    axes.set_ylabel(LIKENESSES[kind], fontsize=9)
    axes.grid(True)
