"""Numbers over many nights: series of one number, the steps in them, and how they look."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..spec.result import Direction
from . import number
from .series import Night, Reading, settings_told

LEAST = 4
"""Nights from which on steps are looked for."""
EFFECT = 0.02
"""The least step, as a share of the value before it."""
FLOOR = 0.002
"""The least noise that a series is taken to have, in logarithms."""
PENALTY = 3.0
"""Of one more step, times log n: in units of the noise's variance."""
BARS = "▁▂▃▄▅▆▇█"
MISSING = "steps are found with ruptures: pip install 'arbench[history]'"


@dataclass(frozen=True)
class Step:
    """Between two nights: `at` is the place of the first night after it, `ratio` the level after over that before."""

    at: int
    ratio: float


@dataclass(frozen=True)
class Series:
    """One number under the same settings on several nights, oldest first. `values` are None on nights without it."""

    key: str
    model: str
    settings_id: str
    setting: str
    """What tells it from the model's other numbers of this name, if there are any."""
    words: str
    unit: str
    direction: Direction | None
    measure: str
    shown: bool
    nights: tuple[Night, ...]
    values: tuple[float | None, ...]
    steps: tuple[Step, ...] = ()

    @property
    def title(self) -> str:
        """Of the model, with what tells this number from others of it."""
        return f"{self.model} ({self.setting})" if self.setting else self.model

    @property
    def known(self) -> list[tuple[Night, float]]:
        return [(night, value) for night, value in zip(self.nights, self.values, strict=True) if value is not None]

    def told(self, step: Step) -> str:
        """ "+5.1 % on 2026-03-05 (0123abc to 89fe012)"."""
        before, after = self.known[step.at - 1][0], self.known[step.at][0]
        commits = f" ({before.git[:7]} to {after.git[:7]})" if before.git != after.git and after.git else ""
        return f"{100 * (step.ratio - 1):+.1f} % on {after.started[:10] or after.run_id}{commits}"

    def better(self, step: Step) -> bool | None:
        return None if self.direction is None else (step.ratio > 1) == (self.direction == "higher")


def series_of(nights: Sequence[Night], least: int = 2) -> list[Series]:
    """The numbers that at least so many of the nights have, with their steps where ruptures is installed."""
    found: dict[str, Reading] = {}
    for night in nights:
        found |= night.readings
    able, told, series = can_find_steps(), settings_told(found.values()), []
    for key, last in found.items():
        readings = [night.readings.get(key) for night in nights]
        values = tuple(reading.metric.value if reading is not None else None for reading in readings)
        known = [value for value in values if value is not None]
        if len(known) < least:
            continue
        result = last.entry.result
        one = Series(
            key, result.adapter, result.settings_id, told[key], last.words, last.metric.unit, last.metric.direction,
            last.metric.measure, last.column.shown, tuple(nights), values, tuple(steps(known)) if able else (),
        )  # fmt: skip
        series.append(one)
    return series


def can_find_steps() -> bool:
    return importlib.util.find_spec("ruptures") is not None


def steps(values: Sequence[float]) -> list[Step]:
    """Where the level of a series changes: PELT (Killick et al., JASA 107, 2012) on logarithms, by ruptures.

    Noise is told by differences of neighbours, which a step does not widen. A night counts as the median of itself and
    its neighbours, so that one bad night is not a step, and a level lasts two nights at least. A step below `EFFECT` is
    left out.
    """
    if len(values) < LEAST or min(values) <= 0:
        return []
    logs = np.log(np.asarray(values, np.float64))
    noise = max(1.4826 * float(np.median(np.abs(np.diff(logs)))) / math.sqrt(2), FLOOR)
    ends = _ends(_calm(logs) / noise)
    levels = [float(np.median(logs[start:end])) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    found = []
    for place, (before, after) in enumerate(pairwise(levels)):
        if abs(after - before) > math.log1p(EFFECT):
            found.append(Step(ends[place], math.exp(after - before)))
    return found


def _calm(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians of three; the first and the last night are taken to be as their neighbours."""
    wide = np.concatenate([logs[1:2], logs, logs[-2:-1]])
    return np.asarray(np.median(np.stack([wide[:-2], wide[1:-1], wide[2:]]), axis=0), np.float64)


def _ends(scaled: NDArray[np.float64]) -> list[int]:
    """The end of each level, the last one the series' own."""
    import ruptures

    search = ruptures.Pelt(model="l2", min_size=2, jump=1).fit(scaled[:, None])
    return [int(end) for end in search.predict(pen=PENALTY * math.log(len(scaled)))]


def bars(values: Sequence[float | None]) -> str:
    """A series as one character a night; a space where there is no number."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    if high == low:
        return "".join(" " if value is None else BARS[3] for value in values)
    return "".join(" " if value is None else BARS[min(7, int(8 * (value - low) / (high - low)))] for value in values)


def value_text(series: Series, value: float) -> str:
    """With the unit that fits the series."""
    unit, scale = number.fitting_unit(series.unit, [known for _, known in series.known])
    return f"{number.with_interval(value / scale, None, None)[0]} {unit}".rstrip()


WIDTH, HEIGHT, EDGE = 220, 36, 4


def sparkline(series: Series) -> str:
    """An SVG: a dot for each night, a line through them, the level of each stretch between steps, the last value."""
    known = [value for _, value in series.known]
    middle = float(np.median(known))
    span = max(max(known) - min(known), 0.02 * abs(middle), 1e-12)
    low = (max(known) + min(known) - span) / 2

    def x(place: int) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * place / max(len(series.nights) - 1, 1)

    def y(value: float) -> float:
        return HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (value - low) / span

    places = [place for place, value in enumerate(series.values) if value is not None]
    points = [(x(place), y(value)) for place, value in zip(places, known, strict=True)]
    parts = [f'<polyline class="line" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>']
    edges = [0, *(step.at for step in series.steps), len(known)]
    for start, end in pairwise(edges):
        level = y(float(np.median(known[start:end])))
        left, right = points[start][0], points[end - 1][0]
        parts.append(f'<line class="level" x1="{left:.1f}" x2="{right:.1f}" y1="{level:.1f}" y2="{level:.1f}"/>')
    for step in series.steps:
        kind = {True: "better", False: "worse", None: "changed"}[series.better(step)]
        at = (points[step.at - 1][0] + points[step.at][0]) / 2
        parts.append(f'<line class="step {kind}" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{HEIGHT}"/>')
    for (night, value), (a, b) in zip(series.known, points, strict=True):
        title = escape(f"{night.started[:16] or night.run_id}: {value_text(series, value)}")
        parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.2"><title>{title}</title></circle>')
    label = escape(f"{series.words} of {series.title} over {len(known)} nights")
    return (
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img"'
        f' aria-label="{label}">{"".join(parts)}</svg>'
    )
