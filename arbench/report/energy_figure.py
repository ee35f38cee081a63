"""The figure of energy: joules for an image at each batch size, in all and beyond what the idle device takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..spec.result import Metric
from .columns import device
from .figures import INK, PAPER, SERIES, STYLE, Drawing, safe, wrapped
from .folders import Entry
from .plots import row_names
from .tables import bounds

GROSS, NET = "energy-per-image", "net-energy-per-image"
NET_COLOR, IDLE_COLOR = SERIES[0], SERIES[5]


@dataclass(frozen=True)
class Spending:
    """Joules for an image of one setting at one batch size; `span`: (low, high) of `gross`, None where unknown."""

    name: str
    batch: int
    gross: float
    net: float
    span: tuple[float, float] | None
    flags: tuple[str, ...]


def spendings(entries: Sequence[Entry]) -> list[Spending]:
    """Those measured, as the entries are ordered, by batch size; none of a device whose counter may not be read."""
    called = row_names(entries)
    found = []
    for entry in entries:
        result = entry.result
        gross, net = _by_batch(result.metrics, GROSS), _by_batch(result.metrics, NET)
        for batch in sorted(gross.keys() & net.keys()):
            whole, above = gross[batch], net[batch]
            name = called[result.adapter, result.settings_id, device(result)]
            flags = tuple(dict.fromkeys([*whole.flags, *above.flags]))
            found.append(Spending(name, batch, whole.value or 0.0, above.value or 0.0, bounds(whole), flags))
    return found


def _by_batch(metrics: Sequence[Metric], name: str) -> dict[int, Metric]:
    return {int(each.at["batch"]): each for each in metrics if each.name == name and each.value is not None}


def figure(found: Sequence[Spending]) -> Drawing | None:
    """A panel for each batch size, None without numbers."""
    if not found:
        return None
    batches = sorted({each.batch for each in found})
    groups = [[each for each in found if each.batch == batch] for batch in batches]
    heights = [sum(1 + wrapped(each.name).count("\n") for each in group) for group in groups]
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(7.6, 0.6 + sum(0.75 + 0.36 * rows for rows in heights)), layout="constrained")
        places = drawing.subplots(len(batches), 1, squeeze=False, height_ratios=[rows + 0.6 for rows in heights])[:, 0]
        titles: dict[str, str] = {}
        for axes, group in zip(places, groups, strict=True):
            titles |= _draw(axes, group)
            axes.set_title(f"batch {group[0].batch}", loc="left", fontsize=10, fontweight="bold")
        places[-1].set_xlabel("J per image, less is better", fontsize=9)
        handles, labels = places[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=9, handlelength=1.2)
        return Drawing(drawing, "Energy of an image", titles)


def _draw(axes: Axes, group: Sequence[Spending]) -> dict[str, str]:
    """Net energy, behind it up to the gross energy what the idle device takes, and the interval of the gross."""
    height = np.arange(len(group))
    gross = axes.barh(
        height, [each.gross for each in group], 0.62, color=IDLE_COLOR, label="idle device", edgecolor=PAPER
    )
    axes.barh(
        height, [max(each.net, 0.0) for each in group], 0.62, color=NET_COLOR, label="net of idle", edgecolor=PAPER
    )
    titles: dict[str, str] = {}
    for y, each, patch in zip(height, group, gross, strict=True):
        low, high = each.span or (each.gross, each.gross)
        axes.plot([low, high], [y, y], color=INK, linewidth=1.3, marker="|", markersize=6 if each.span else 0)
        flagged = " *" if each.flags else ""
        words = f"{each.gross:.3g}, net {each.net:.3g}{flagged}"
        axes.annotate(words, (max(high, each.gross), y), (5, 0), textcoords="offset points", va="center", fontsize=9)
        identity = safe(f"energy-{each.batch}-{each.name}")
        patch.set_gid(identity)
        span = f" ({low:.4g} to {high:.4g})" if each.span else ""
        marked = f"; flagged {', '.join(each.flags)}" if each.flags else ""
        titles[identity] = (
            f"{each.name}, batch {each.batch}: {each.gross:.4g} J per image{span}, net {each.net:.4g} J{marked}"
        )
    axes.set_yticks(height, [wrapped(each.name) for each in group])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25 * max(max(each.gross, (each.span or (0.0, 0.0))[1]) for each in group))
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    return titles
