"""How time, memory and work grow with batch, resolution, tokens and model size, and fewer steps beside less time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..spec.card import Card
from ..spec.result import Metric
from .columns import device
from .folders import Entry
from .rows import names

FEWEST = 4
"""Points that a slope needs."""
NUMBERS = ("latency", "peak-memory", "flops", "traffic")
OPERATION = "sample"


@dataclass(frozen=True)
class Slope:
    """Exponent of a number along something: 1 is proportional. low, high: its 95 % interval."""

    name: str
    number: str
    along: str
    points: int
    slope: float
    low: float
    high: float

    @property
    def text(self) -> str:
        return f"{self.slope:.2f}"

    @property
    def interval(self) -> str:
        return f"{self.low:.2f} to {self.high:.2f}"


@dataclass(frozen=True)
class Ratio:
    """A model beside the one that takes most steps: how many times fewer steps, how many times less time."""

    name: str
    batch: int
    steps: float
    seconds: float
    fewer: float
    faster: float


def log_slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float] | None:
    """Slope of log y on log x by least squares, with Student's 95 % interval; None below four places of x."""
    if len(set(x)) < FEWEST or min(x) <= 0 or min(y) <= 0:
        return None
    from scipy import stats

    fit = stats.linregress(np.log(x), np.log(y))
    reach = float(stats.t.ppf(0.975, len(x) - 2)) * float(fit.stderr)
    return float(fit.slope), float(fit.slope) - reach, float(fit.slope) + reach


def slopes(entries: Sequence[Entry], cards: Mapping[str, Card]) -> list[Slope]:
    """Along the batch, of each model; along size, resolution and tokens, of the models of one implementation, all else
    alike, at the smallest batch."""
    called = names(entry.result for entry in entries)
    series: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for entry in entries:
        result = entry.result
        name = called[result.adapter, result.settings_id]
        card = cards.get(result.adapter)
        for number in NUMBERS:
            by_batch = _by_batch(result.metrics, number)
            for batch, value in by_batch.items():
                series.setdefault((name, number, "batch"), []).append((batch, value))
            if card is None or not by_batch:
                continue
            smallest = min(by_batch)
            guided = ", guided" if result.sampling is not None and result.sampling.guidance.on else ""
            group = (
                f"{card.implementation.partition(':')[2]} ({result.load.get('dtype', '')}, {device(result)}{guided})"
            )
            tokens = card.tokens.tokens if card.tokens else 0
            sizes = {"parameters": card.parameters or 0, "resolution": card.resolution, "tokens": tokens}
            for along, size in sizes.items():
                same = {key: value for key, value in sizes.items() if key not in (along, *ALONGSIDE[along])}
                if size:
                    key = f"{group}, batch {smallest}" + "".join(f", {value:,} {key}" for key, value in same.items())
                    series.setdefault((key, number, along), []).append((float(size), by_batch[smallest]))
    found = []
    for (name, number, along), points in series.items():
        fit = log_slope([x for x, _ in points], [y for _, y in points])
        if fit is not None:
            found.append(Slope(name, number, along, len(points), *fit))
    return found


ALONGSIDE = {"parameters": (), "resolution": ("tokens", "parameters"), "tokens": ("resolution", "parameters")}
"""What changes with each size in any family, and so need not be alike."""


def ratios(entries: Sequence[Entry]) -> list[Ratio]:
    """Of the generators on one device, at the smallest batch that all have; empty unless two differ in their steps."""
    called = names(entry.result for entry in entries)
    by_device: dict[str, list[tuple[str, float, dict[int, float]]]] = {}
    for entry in entries:
        result = entry.result
        steps = next((metric.value for metric in result.metrics if metric.name == "steps"), None)
        times = _by_batch(result.metrics, "latency")
        if steps and times:
            name = called[result.adapter, result.settings_id]
            by_device.setdefault(device(result), []).append((name, steps, times))
    found: list[Ratio] = []
    for rows in by_device.values():
        common = set.intersection(*(set(times) for *_, times in rows))
        if not common or len({steps for _, steps, _ in rows}) < 2:
            continue
        batch = min(common)
        _, most, slow = max(rows, key=lambda row: row[1])
        found += [
            Ratio(name, batch, steps, times[batch], most / steps, slow[batch] / times[batch])
            for name, steps, times in sorted(rows, key=lambda row: -row[1])
        ]
    return found


def _by_batch(metrics: Sequence[Metric], name: str) -> dict[int, float]:
    """Values of the whole call by batch size."""
    return {
        int(metric.at["batch"]): metric.value
        for metric in metrics
        if metric.name == name
        and metric.value is not None
        and math.isfinite(metric.value)
        and "batch" in metric.at
        and metric.at.get("operation", OPERATION) == OPERATION
    }
