"""The difference of one number between two results: paired by sample where their ids match, and what to make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal

import numpy as np

from ..errors import UsageError
from ..metrics import differences
from ..metrics.differences import Contrast
from ..metrics.estimate import Estimate
from ..metrics.sets.kernel import Kind
from ..report.columns import Column
from ..report.folders import Entry
from ..spec.result import Metric
from .matching import Numbers, Setting
from .samples import References, Reordered, Samples, definition_of, order_of

Verdict = Literal[
    "identical", "better", "worse", "changed", "comparable", "not told apart", "not comparable", "not measured"
]
EXACT = frozenset(
    {
        "steps", "forwards", "inner-steps", "tokens", "flops", "traffic", "operations", "weight-passes", "kernels",
        "weights-file", "tokens-per-image", "bits-per-token",
    }
)  # fmt: skip
"""Numbers that do not scatter: they are equal, or something has changed."""
RATIOS = ("speed", "memory")
AGREES, OFFSET = 0.1, 0.05
"""How far what is computed from the samples on disk may be from the results: the difference, in widths of its interval;
each number, as a share of itself."""
DEFAULTS: Mapping[str, str] = {"speed": "5%", "memory": "2%"}
"""Tolerances of what is declared for no number: a share of the old value."""


@dataclass(frozen=True)
class Tolerance:
    """What is declared to be comparable: a difference of at most `amount`, or of this share of the old value."""

    amount: float
    relative: bool

    def of(self, value: float) -> float:
        return self.amount * abs(value) if self.relative else self.amount

    @property
    def words(self) -> str:
        return f"{100 * self.amount:g} %" if self.relative else f"{self.amount:g}"


def tolerances(written: Sequence[str]) -> dict[str, Tolerance]:
    """Of "NAME=0.3" and "NAME=5%", where NAME is a glob of metrics, or quality, speed or memory. The first that fits
    a number counts; raises `UsageError` for what is none."""
    found: dict[str, Tolerance] = {}
    for text in [*written, *(f"{name}={value}" for name, value in DEFAULTS.items())]:
        name, _, value = text.partition("=")
        try:
            amount = float(value.strip().removesuffix("%"))
            if not (name.strip() and 0 <= amount < float("inf")):
                raise ValueError
        except ValueError:
            hint = "--tolerance fid=0.3 --tolerance latency=5%"
            raise UsageError(f"{text!r} is not a tolerance", "NAME=AMOUNT, or NAME=PERCENT%", hint) from None
        percent = value.strip().endswith("%")
        found.setdefault(name.strip(), Tolerance(amount / 100 if percent else amount, percent))
    return found


@dataclass(frozen=True)
class Difference:
    """One number in both results. `change` is the difference new - old, or of timings and memory the ratio new / old.

    `shorter`: by what factor pairing has shortened the interval. `why` says what a verdict does not. `settings` are
    those of the number's protocol that differ.
    """

    model: str
    column: Column
    old: Metric | None
    new: Metric | None
    verdict: Verdict
    change: Contrast | None = None
    ratio: bool = False
    paired: bool = False
    shorter: float | None = None
    tolerance: Tolerance | None = None
    why: str = ""
    turns: int = 0
    """Rounds in which both were measured in turn."""
    beside: str = ""
    """Of a timing: how the work differs, "steps x 0.5, forwards x 1"."""
    settings: tuple[Setting, ...] = field(default=())

    def named(self, globs: Sequence[str]) -> bool:
        """Whether it is one of "any", a measure (quality, speed, memory), or metrics that match a glob."""
        words = ("any", self.column.measure, self.column.name, f"{self.column.convention}/{self.column.name}")
        return any(fnmatchcase(word, glob) for glob in globs for word in words)


class Differences:
    """Makes the differences of two folders' numbers; features of references are read once for all."""

    def __init__(self, references: References, declared: Mapping[str, Tolerance]) -> None:
        self._references, self._declared = references, declared
        self._samples: dict[int, Samples] = {}

    def samples(self, entry: Entry) -> Samples:
        return self._samples.setdefault(id(entry), Samples(entry))

    def of(self, model: str, numbers: Numbers) -> Difference:
        column, old, new = numbers.column, numbers.old, numbers.new
        one, two = old[1] if old else None, new[1] if new else None
        if one is None or two is None or one.value is None or two.value is None or old is None or new is None:
            return Difference(model, column, one, two, "not measured", why=_missing(one, two))
        ratio = column.measure in RATIOS and one.value > 0 and two.value > 0
        tolerance = self._tolerance(column)
        found = Difference(
            model, column, one, two, "identical", ratio=ratio, tolerance=tolerance, settings=numbers.differing
        )
        if _same_samples(old, new) and one.value == two.value and column.measure == "quality":
            return replace(found, paired=True, change=Contrast(0.0))
        runs = all(each.interval is not None and each.interval.covers == "another run" for each in (one, two))
        plain = differences.of_independent if not ratio else differences.of_runs if runs else differences.of_ratio
        unpaired = plain(_estimate(one), _estimate(two))
        paired = self._paired(old, new) if column.measure == "quality" and column.name not in EXACT else None
        change = paired or unpaired
        narrower = None
        if paired is not None and paired.width and unpaired.width:
            narrower = unpaired.width / paired.width
        verdict, why = judged(column, one.value, change, tolerance, ratio)
        if any(setting.protocol for setting in numbers.differing):
            verdict, why = "not comparable", ", ".join(each.words for each in numbers.differing if each.protocol)
        return replace(found, verdict=verdict, change=change, paired=paired is not None, shorter=narrower, why=why)

    def _tolerance(self, column: Column) -> Tolerance | None:
        names = (f"{column.convention}/{column.name}", column.name, column.measure)
        for glob, tolerance in self._declared.items():
            if any(fnmatchcase(name, glob) for name in names):
                return tolerance
        return None

    def _paired(self, old: tuple[Entry, Metric], new: tuple[Entry, Metric]) -> Contrast | None:
        """By the samples of both, None where they do not belong together or are not on disk.

        What is computed from them must be the numbers of the results: else the two are not of these samples.
        """
        one, two = self.samples(old[0]), self.samples(new[0])
        order = order_of(one, two)
        if order is None:
            return None
        values = one.values(old[1]), two.values(new[1])
        if values[0] is not None and values[1] is not None:
            first, second = values[0], values[1][order]
            if set(np.unique(first)) | set(np.unique(second)) <= {0.0, 1.0}:
                return differences.of_shares(first == 1, second == 1)
            return differences.of_means(first, second)
        found, scale = self._of_sets(old[1], one, two, order)
        if found is None or found.sides is None:
            return None
        stated = (old[1].value or 0.0), (new[1].value or 0.0)
        # a tool's rounding, or a kernel's diagonal, moves both numbers alike
        offset = [stated[side] - scale * found.sides[side] for side in (0, 1)]
        if max(map(abs, offset)) > OFFSET * max(map(abs, stated)) or abs(offset[1] - offset[0]) > AGREES * scale * (
            found.width or 0.0
        ):
            return None
        value = stated[1] - stated[0]
        low, high = (None if each is None else value + scale * (each - found.value) for each in (found.low, found.high))
        return Contrast(value, low, high, found.method, found.reason)

    def _of_sets(self, metric: Metric, one: Samples, two: Samples, order: np.ndarray) -> tuple[Contrast | None, float]:
        """Of a Frechet or a kernel distance, and by what its unit is to be multiplied."""
        definition = definition_of(metric)
        kernels: dict[str, tuple[Kind, float]] = {"kid": ("polynomial", 1.0), "cmmd": ("gaussian", 1000.0)}
        if definition is None or definition.kind not in ("frechet", *kernels):
            return None, 1.0
        first, second = one.vectors(definition.output), two.vectors(definition.output)
        if first is None or second is None or first.convention != second.convention:
            return None, 1.0
        rows = first.rows, Reordered(second.rows, order)
        if definition.kind == "frechet":
            real = self._references.moments(metric, definition.output, first.convention)
            return (differences.of_frechet(*rows, real) if real is not None else None), 1.0
        kernel, scale = kernels[definition.kind]
        wanted = metric, definition.output, first.convention
        reference = self._references.rows(*wanted)
        if reference is None:
            return None, scale
        known = partial(self._references.sums, *wanted, kernel)
        return differences.of_kernel(*rows, reference, kernel, known), scale


def _estimate(metric: Metric) -> Estimate:
    interval = metric.interval
    if interval is None:
        return Estimate(metric.value)
    return Estimate(metric.value, interval.low, interval.high)


def _same_samples(old: tuple[Entry, Metric], new: tuple[Entry, Metric]) -> bool:
    one, two = old[0].result.samples, new[0].result.samples
    return one is not None and two is not None and one.digest != "" and one.digest == two.digest


def _missing(old: Metric | None, new: Metric | None) -> str:
    if old is not None and new is not None and old.reason == new.reason:
        return old.reason
    sides = [
        f"{side}: {metric.reason if metric else 'no such number'}"
        for side, metric in (("old", old), ("new", new))
        if metric is None or metric.value is None
    ]
    return "; ".join(sides)


def judged(
    column: Column, old: float, change: Contrast, tolerance: Tolerance | None, ratio: bool
) -> tuple[Verdict, str]:
    """By the interval: beyond the tolerance on one side, within it on both, or neither. Without an interval only exact
    numbers are judged, and memory, by a tolerance that is a share."""
    same = 1.0 if ratio else 0.0
    if column.name in EXACT:
        return ("identical", "") if change.value == same else (_side(column, change.value > same), "an exact number")
    if column.measure == "memory" and tolerance is not None and tolerance.relative and change.low is None:
        if 1 / (1 + tolerance.amount) <= change.value <= 1 + tolerance.amount:
            return "comparable", ""
        return _side(column, change.value > same), "one reading each, judged by the tolerance alone"
    if change.low is None or change.high is None:
        return "not told apart", change.reason
    if change.value == same and change.low == change.high:
        return "identical", ""
    slack = 0.0
    if tolerance is not None:
        slack = tolerance.of(1.0 if ratio and tolerance.relative else old)
        slack = slack / old if ratio and not tolerance.relative else slack
    upper, lower = same + slack, same - slack if not ratio else same / (1 + slack)
    if change.low > upper:
        return _side(column, True), ""
    if change.high < lower:
        return _side(column, False), ""
    if tolerance is not None and lower <= change.low and change.high <= upper:
        return "comparable", ""
    return "not told apart", ""


def _side(column: Column, more: bool) -> Verdict:
    if column.direction is None:
        return "changed"
    return "better" if more == (column.direction == "higher") else "worse"
