"""The figure of tokenizers: quality of reconstructions against the bits that they take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..spec.card import Card
from ..spec.result import Result
from .figures import MARKERS, PAPER, SERIES, STYLE, Drawing, safe
from .folders import Entry
from .plots import quality_column, row_names
from .tables import Table, bounds

BITS = "bits-per-image"


@dataclass(frozen=True)
class Rated:
    """A tokenizer: bits per pixel of its codes, and its quality with (low, high) where known."""

    name: str
    place: int
    """Among all tokenizers, for the colour that it has in the other figures."""
    rate: float
    value: float
    span: tuple[float, float] | None


def rated(entries: Sequence[Entry], table: Table, cards: Mapping[str, Card]) -> list[Rated]:
    """Tokenizers with codes, as the entries are ordered. Continuous latents have no rate."""
    column = quality_column(table)
    if column is None:
        return []
    pixels = {
        (entry.result.adapter, entry.result.settings_id): count
        for entry in entries
        if any(each.name == BITS for each in entry.result.metrics) and (count := _pixels(entry.result, cards))
    }
    place, names = table.columns.index(column), row_names(entries)
    order = list(dict.fromkeys(names.values()))
    found: dict[str, Rated] = {}
    for row in table.rows:
        quality = row.places[place].metric
        count = pixels.get((row.adapter, row.settings_id))
        rates = [
            each.metric.value
            for each, other in zip(row.places, table.columns, strict=True)
            if other.name == BITS and not other.metric.at and each.metric is not None and each.metric.value is not None
        ]
        if quality is not None and quality.value is not None and count and rates:
            name = names[row.adapter, row.settings_id, row.device]
            found[name] = Rated(name, order.index(name), rates[0] / count, quality.value, bounds(quality))
    return [found[name] for name in order if name in found]


def _pixels(result: Result, cards: Mapping[str, Card]) -> float | None:
    """Of an image, the mean over those that were reconstructed; None where neither the result nor a card says it."""
    sizes = result.samples.sizes if result.samples else {}
    if sizes:
        return sum(math.prod(map(int, size.split("x"))) * n for size, n in sizes.items()) / sum(sizes.values())
    card = cards.get(result.adapter)
    return None if card is None else float(card.resolution**2)


def figure(entries: Sequence[Entry], table: Table, cards: Mapping[str, Card]) -> Drawing | None:
    """None where fewer than two tokenizers have a rate."""
    points, column = rated(entries, table, cards), quality_column(table)
    if len(points) < 2 or column is None:
        return None
    unit = f" [{column.unit}]" if column.unit else ""
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(7.6, 3.6), layout="constrained")
        axes, titles = drawing.subplots(), dict[str, str]()
        for point in points:
            color, marker = SERIES[point.place % len(SERIES)], MARKERS[point.place % len(MARKERS)]
            low, high = point.span or (point.value, point.value)
            axes.plot([point.rate, point.rate], [low, high], color=color, linewidth=1.3)
            (dot,) = axes.plot(
                point.rate, point.value, marker, color=color, markersize=7.5, markeredgecolor=PAPER, label=point.name
            )
            dot.set_gid(safe(f"rate-{point.name}"))
            titles[safe(f"rate-{point.name}")] = (
                f"{point.name}: {column.words} {point.value:.4g} at {point.rate:.3g} bits per pixel"
            )
        axes.set_xlabel("bits per pixel, smaller files to the left")
        axes.set_ylabel(f"{column.name} ({column.convention}){unit}, {column.direction} is better")
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.margins(0.1, 0.15)
        axes.grid(True)
        drawing.legend(loc="outside upper left", ncols=4, fontsize=9)
        return Drawing(drawing, f"{column.name} against bits per pixel", titles)
