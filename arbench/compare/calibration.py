"""A/A calibration: one build against itself in fresh sessions, and how often the gate would take that for a change."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from ..errors import InputError, UsageError
from ..files import write_atomic
from ..journal import now
from ..json_text import parse_json
from ..report.series import Reading
from ..spec.base import Kept
from . import screen
from .in_turn import Measure, Number, of_row

FILE = "calibration.json"
LEAST = 2 * screen.ROUNDS
"""Sessions: as many as a confirmation takes."""
MOST_FLIPS = 10
"""Pairs of sessions whose orders are all tried, the latest."""
SUSPECT, REGRESSED = 0.2, 0.01
"""Shares of false alarms, of the screen and of the confirmation, beyond which a number is put in quarantine."""


class Noise(Kept):
    """What the sessions say of one number of one adapter."""

    adapter: str
    metric: str
    readings: tuple[float, ...]
    """In the order of the sessions."""
    spread: float
    """Robust standard deviation of the logarithms."""
    screened: float
    """Share of the sessions that are SUSPECT by a prediction from the others."""
    confirmed: float
    """Share of the ways to call one of each two neighbours the new build that are REGRESSED."""

    @property
    def unstable(self) -> str:
        """Why the number is not gated; "" for one that is."""
        count, told = len(self.readings), []
        if self.spread > screen.UNSTABLE:
            told.append(f"sessions lie {100 * self.spread:.0f} % apart")
        if self.screened > SUSPECT:
            told.append(f"{self.screened * count:.0f} of {count} sessions were suspect")
        if self.confirmed > REGRESSED:
            told.append(f"{100 * self.confirmed:.1f} % of confirmations were regressions")
        return f"A/A: {'; '.join(told)}" if told else ""


class Calibration(Kept):
    """`calibration.json`, beside a baseline: its numbers by their keys."""

    schema_version: int = 1
    time: str
    sessions: int
    numbers: dict[str, Noise] = Field(default_factory=dict)


def noise(adapter: str, metric: str, readings: Sequence[float], effect: float, higher_is_better: bool = False) -> Noise:
    """Of readings (n,) of sessions, all positive, in their order, `LEAST` or more; `effect` as in `screen`."""
    values = np.asarray(readings, np.float64)
    slow = 1 / values if higher_is_better else values
    others = np.stack([np.delete(slow, place) for place in range(len(slow))])
    suspect = screen.band(others).beyond(slow, effect) == 1
    pairs = len(slow) // 2
    apart = np.diff(np.log(slow[: 2 * pairs]).reshape(pairs, 2))[-MOST_FLIPS:, 0]
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(apart))))
    found = screen.confirmed(np.ones_like(signs), np.exp(signs * apart)).decision(effect)
    return Noise(
        adapter=adapter,
        metric=metric,
        readings=tuple(map(float, readings)),
        spread=float(screen.band(slow).spread),
        screened=float(suspect.mean()),
        confirmed=float((found == "slower").mean()),
    )


def sessions(
    measure: Measure, wanted: Mapping[str, frozenset[str]], count: int, tell: Callable[[str], None]
) -> dict[str, dict[Number, list[float]]]:
    """Adapter -> number -> readings of `count` sessions, each of fresh processes, the adapters in turn;
    numbers that a session lacks are left out. `wanted`: adapter -> tasks."""
    found: dict[str, dict[Number, list[float]]] = {adapter: {} for adapter in wanted}
    for number in range(count):
        for adapter, tasks in wanted.items():
            tell(f"{adapter}: session {number + 1} of {count}")
            for name, value in measure(adapter, tasks).items():
                found[adapter].setdefault(name, []).append(value)
    return {
        adapter: {name: values for name, values in own.items() if len(values) == count}
        for adapter, own in found.items()
    }


def noises(
    measure: Measure, timings: Mapping[str, Reading], count: int, tell: Callable[[str], None]
) -> dict[str, Noise]:
    """Of a baseline's timings by key, those that all of `count` sessions have and that are positive. Raises
    `UsageError` for fewer than `LEAST` sessions, `InputError` where the baseline lacks timings."""
    if count < LEAST:
        why = f"a confirmation in turn takes {LEAST} of them"
        raise UsageError(f"too few sessions: {count}", why, f"--sessions {LEAST}")
    if not timings:
        raise InputError("the baseline has neither timings nor memory", "there is nothing to calibrate", "arbench gate")
    wanted: dict[str, set[str]] = {}
    for each in timings.values():
        wanted.setdefault(each.entry.result.adapter, set()).add(each.entry.result.task)
    found = sessions(measure, {adapter: frozenset(tasks) for adapter, tasks in wanted.items()}, count, tell)
    made = {}
    for key, each in timings.items():
        result, metric = each.entry.result, each.metric
        values = of_row(found[result.adapter], result.task, each.words, result.settings_id)
        if values and min(values) > 0:
            higher = metric.direction == "higher"
            made[key] = noise(result.adapter, each.words, values, screen.EFFECT[metric.measure], higher)
    return made


def read(place: Path) -> Calibration | None:
    """Of the baseline in `place`; None where there is none. Raises as `parse_json` and pydantic do."""
    path = place / FILE
    return Calibration.model_validate(parse_json(path.read_bytes())) if path.is_file() else None


def write(place: Path, numbers: Iterable[tuple[str, Noise]], count: int, hint: str) -> Calibration:
    made = Calibration(time=now(), sessions=count, numbers=dict(numbers))
    write_atomic(place / FILE, (made.model_dump_json(indent=1) + "\n").encode(), hint)
    return made
