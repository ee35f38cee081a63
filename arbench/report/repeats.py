"""Results of one system that was measured several times: under several seeds, or trained several times.

One result stands for all. Of seeds it is the first one's, with its interval, and how far the seeds lie apart beside it:
what an interval of sampling says should come to that. Of trainings it is the mean, with Student's interval of the mean,
which covers another training as well, and how far they lie apart.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..spec.identity import canonical_json
from ..spec.result import Interval, Metric, MetricKey, Result
from .folders import Entry

SEEDS, TRAININGS = "seeds", "trainings"
MEAN, SD = "_mean", "_sd"
"""Of SEEDS and TRAININGS, names of extras: how many there are, their mean and their standard deviation."""


def together(results: Sequence[Result]) -> list[Result]:
    """One result for each system, task and settings; those of failed cells stay as they are."""
    return [result for _, result in _folded(_folded(list(enumerate(results)), SEEDS), TRAININGS)]


def entries_together(entries: Sequence[Entry]) -> list[Entry]:
    """As `together`; files are those of the first of several."""
    found = _folded(_folded([(place, entry.result) for place, entry in enumerate(entries)], SEEDS), TRAININGS)
    return [replace(entries[place], result=result) for place, result in found]


Placed = tuple[int, Result]


def _folded(items: Sequence[Placed], over: str) -> list[Placed]:
    order, fold = (_seed, _of_seeds) if over == SEEDS else (_training, _of_trainings)
    groups: dict[str, list[Placed]] = {}
    for place, result in items:
        one = order(result) is None or result.outcome != "ok"
        groups.setdefault(f"{place}" if one else _alike(result, over), []).append((place, result))
    found = []
    for members in groups.values():
        members.sort(key=lambda item: order(item[1]) or 0)
        place, first = members[0]
        found.append((place, fold([result for _, result in members]) if len(members) > 1 else first))
    return found


def _seed(result: Result) -> int | None:
    """Of a cell that was repeated under several, else None."""
    return int(result.load["seed"]) if result.load.get("seeds", 1) > 1 else None


def _training(result: Result) -> int | None:
    return int(result.load["replicate"]) if result.load.get("replicates", 1) > 1 else None


def _alike(result: Result, over: str) -> str:
    """What results have in common that are repetitions of each other."""
    load, own = dict(result.load), "replicate" if over == TRAININGS else "seed"
    load.pop(own)
    seen = result.provenance
    known: list[Any] = [result.adapter, result.task, result.parameters, load, seen.device if seen else ""]
    if over == SEEDS:
        known.append(result.settings_id)
    else:
        known.append(result.sampling.plain() if result.sampling else None)
    return canonical_json(known)


def _of_seeds(results: Sequence[Result]) -> Result:
    return _with(results, lambda metric, values: metric.model_copy(update={"extras": _told(metric, values, SEEDS)}))


def _of_trainings(results: Sequence[Result]) -> Result:
    from scipy.special import stdtrit

    def fold(metric: Metric, values: Sequence[float]) -> Metric:
        mean, k = statistics.fmean(values), len(values)
        half = float(stdtrit(k - 1, 0.975)) * statistics.stdev(values) / k**0.5
        span = Interval(low=mean - half, high=mean + half, method=f"Student's t over {k} trainings")
        return metric.model_copy(update={"value": mean, "interval": span, "extras": _told(metric, values, TRAININGS)})

    return _with(results, fold)


def _with(results: Sequence[Result], fold: Callable[[Metric, Sequence[float]], Metric]) -> Result:
    first, *others = results
    known: list[dict[MetricKey, float]] = [
        {metric.key: metric.value for metric in result.metrics if metric.value is not None} for result in results
    ]
    metrics = []
    for metric in first.metrics:
        values = [own[metric.key] for own in known if metric.key in own]
        quality = metric.measure == "quality" and len(values) == len(results)
        metrics.append(fold(metric, values) if quality else metric)
    return first.model_copy(update={"metrics": tuple(metrics)}) if others else first


def _told(metric: Metric, values: Sequence[float], over: str) -> dict[str, float]:
    return {
        **metric.extras,
        over: float(len(values)),
        over + MEAN: statistics.fmean(values),
        over + SD: statistics.stdev(values),
    }


@dataclass(frozen=True)
class Spread:
    """How far a number's repetitions lie apart: standard deviation, how many there are, and of what ("seeds" or
    "trainings").
    """

    sd: float
    count: int
    over: str


def spreads(metric: Metric) -> list[Spread]:
    """Of seeds, then of trainings; empty for a number that was measured once."""
    return [
        Spread(metric.extras[over + SD], int(metric.extras[over]), over)
        for over in (SEEDS, TRAININGS)
        if over in metric.extras
    ]


def spread_of(metric: Metric) -> Spread | None:
    """The one that goes with the value: of trainings, where it is their mean, else of seeds."""
    return next(reversed(spreads(metric)), None)


def spread_words(metric: Metric, scale: float = 1.0) -> str:
    """ "sd 0.031 of 5 seeds", "sd 0.09 of 3 trainings"; "" of a single one."""
    return ", ".join(f"sd {each.sd / scale:.2g} of {each.count} {each.over}" for each in spreads(metric))


def covers(metric: Metric, kind: str) -> str:
    """What the interval of a number is of, and what it is not; "" without an interval."""
    if metric.interval is None:
        return ""
    if TRAININGS in metric.extras:
        return "covers other trainings and other samples"
    if metric.measure == "speed":
        return "covers other calls in this session, not what the machine does between sessions"
    if metric.measure == "memory":
        return ""
    if kind == "generator":
        return "covers other samples of this model at this n; another training moves FID about three times as far"
    return "covers other images at this n, not another training"
