"""Small multiples of an audit: one number along one thing a panel, in ink alone, each with its images and their n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator

from ..spec.result import At, Metric
from .figures import INK, LINE, MUTED, STYLE, svg
from .tables import bounds

WIDE = 8.0
"""From this ratio of largest to smallest whole number on, and four times it of others, the axis is logarithmic."""


@dataclass(frozen=True)
class Panel:
    """One small figure as SVG, and what it shows."""

    title: str
    images: str
    """Data, size, crop and n."""
    svg: str
    task: str
    metric: str
    along: str


@dataclass(frozen=True)
class _Kind:
    title: str
    task: str
    metric: str
    along: str
    x: str
    y: str
    line: bool = True


KINDS = (
    _Kind("Error by region", "detail", "region-error", "region", "", "levels of 255", line=False),
    _Kind("Power kept by frequency", "detail", "spectrum-ratio", "frequency", "cycles per pixel", "of the original's"),
    _Kind("Power of the error", "detail", "error-spectrum", "frequency", "cycles per pixel", "of the original's"),
    _Kind("Error in boxes by side", "objects", "box-error", "size", "", "levels of 255", line=False),
    _Kind("Characters read wrong", "text", "cer", "pixels", "size of the font in pixels", "share of characters"),
    _Kind("Characters read wrong", "text", "cer", "script", "", "share of characters", line=False),
    _Kind("Codes seen", "codes", "codebook-seen", "images", "images", "share of the codebook"),
    _Kind("Mutual information of codes", "codes", "mutual-information", "distance", "tokens away", "bits"),
    _Kind("A code exchanged", "codes", "swap-change", "neighbour", "for its n-th neighbour", "levels of 255"),
    _Kind("Spread of the channels", "codes", "latent-deviation", "channel", "channel", "deviation", line=False),
    _Kind("Noise on the latents", "codes", "noise-cost", "noise", "noise in a channel's deviations", "dB of PSNR lost"),
    _Kind("Change by that noise", "codes", "noise-error", "noise", "noise in a channel's deviations", "levels of 255"),
    _Kind("Codes changed by", "stability", "token-change", "perturbation", "", "share of codes", line=False),
    _Kind("Latents changed by", "stability", "latent-change", "perturbation", "", "|z' − z| / |z|", line=False),
    _Kind("Codes that come back", "stability", "token-agreement", "level", "level", "share of codes", line=False),
    _Kind("After more rounds", "stability", "psnr-round", "round", "rounds", "PSNR in dB"),
    _Kind("From the first tokens", "prefix", "prefix-psnr", "tokens", "tokens", "PSNR in dB"),
    _Kind("From the first tokens", "prefix", "prefix-psnr", "share", "share of an image's tokens", "PSNR in dB"),
    _Kind("Predictor's bits a code", "predict", "probe-bits", "eighth", "eighth of the sequence", "bits"),
    _Kind("Predictor's bits a code", "predict", "probe-bits", "level", "level", "bits"),
)


def panels(metrics: Mapping[str, Sequence[Metric]], images: Mapping[str, str]) -> list[Panel]:
    """Those of which there are two values at least. `metrics` and what the images are, by task."""
    found = []
    for kind in KINDS:
        own = [
            metric
            for metric in metrics.get(kind.task, ())
            if metric.name == kind.metric and metric.value is not None and _only(metric.at, kind.along)
        ]
        if len(own) > 1:
            n = sorted({metric.n for metric in own})
            count = f"n {n[0]:,}" if len(n) == 1 else f"n {n[0]:,} to {n[-1]:,}"
            found.append(Panel(kind.title, f"{images[kind.task]}, {count}", _drawn(kind, own), *_key(kind)))
    return found


def _key(kind: _Kind) -> tuple[str, str, str]:
    return kind.task, kind.metric, kind.along


def _only(at: Mapping[str, At], along: str) -> bool:
    """Whether a number is measured along one thing, and not at a place of something else as well."""
    beside = {"prefix", "round"} if along in ("tokens", "level") else set()
    return along in at and not set(at) - {along} - beside


def _drawn(kind: _Kind, metrics: Sequence[Metric]) -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.2, 2.25), layout="constrained")
        axes: Axes = figure.subplots()
        axes.set_axisbelow(True)
        places, values = [metric.at[kind.along] for metric in metrics], [metric.value or 0.0 for metric in metrics]
        if kind.line:
            _curve(axes, [float(place) for place in places], values, metrics)
        else:
            _bars(axes, [str(place) for place in places], values, metrics)
        named = not kind.line and not isinstance(places[0], int)
        (axes.set_xlabel if named else axes.set_ylabel)(kind.y, fontsize=9)
        (axes.set_ylabel if named else axes.set_xlabel)(kind.x, fontsize=9)
        return svg(figure, f"{kind.title}: {kind.metric} by {kind.along}", {})


def _curve(axes: Axes, x: Sequence[float], y: Sequence[float], metrics: Sequence[Metric]) -> None:
    spread = _spread(metrics)
    axes.errorbar(x, y, yerr=spread, color=INK, linewidth=1.3, elinewidth=1, capsize=2, marker="o", markersize=3.5)
    whole = all(place == int(place) for place in x)
    if min(x) > 0 and max(x) >= (WIDE if whole else 4 * WIDE) * min(x) and len(x) > 3:
        axes.set_xscale("log", base=2)
        ticks = [place for index, place in enumerate(x) if index % max(1, -(-len(x) // 5)) == 0]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    elif whole:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ends = spread or [[0.0] * len(y)] * 2
    low = min(0.0, *(value - down for value, down in zip(y, ends[0], strict=True)))
    high = max(value + up for value, up in zip(y, ends[1], strict=True))
    axes.set_ylim(*((low, high * 1.12) if high <= 1.5 and high > 0 else axes.get_ylim()))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(True)


def _bars(axes: Axes, names: Sequence[str], values: Sequence[float], metrics: Sequence[Metric]) -> None:
    """Upright and numbered, or lying with names."""
    spread, places = _spread(metrics), range(len(names))
    if isinstance(next(iter(metrics[0].at.values())), int):
        axes.bar(places, values, 0.7, color=LINE, edgecolor=INK, linewidth=0.8, yerr=spread, ecolor=INK, capsize=2)
        step = max(1, -(-len(names) // 8))
        axes.set_xticks(list(places)[::step], list(names)[::step])
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(True, axis="y")
        return
    axes.barh(places, values, 0.62, color=LINE, edgecolor=INK, linewidth=0.8, xerr=spread, ecolor=INK, capsize=2)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.tick_params(axis="x", color=MUTED)
    axes.grid(True, axis="x")


def _spread(metrics: Sequence[Metric]) -> list[list[float]] | None:
    """Distances of the limits from the value, 0 where there are none; None where no value has any."""
    if not any(bounds(metric) for metric in metrics):
        return None
    spans = [bounds(metric) or (metric.value or 0.0, metric.value or 0.0) for metric in metrics]
    values = [metric.value or 0.0 for metric in metrics]
    low = [max(value - span[0], 0.0) for value, span in zip(values, spans, strict=True)]
    return [low, [max(span[1] - value, 0.0) for value, span in zip(values, spans, strict=True)]]
