"""A number with its error bar: what every metric function returns. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..spec.result import OWN, At, Direction, Interval, Metric, ReferenceSet

LEVEL = 0.95
Z = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval, or no value and the reason why.

    `low` and `high` are None where no interval is known; `method` names how they were computed; `n` counts the samples
    behind the value.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = ""
    n: int = 0
    flags: tuple[str, ...] = ()
    reason: str = ""

    def flagged(self, flags: Iterable[str]) -> Self:
        """With these flags too, each once."""
        return replace(self, flags=tuple(dict.fromkeys((*self.flags, *flags))))

    def metric(
        self,
        name: str,
        how: str,
        unit: str = "",
        direction: Direction | None = None,
        *,
        convention: str = OWN,
        reference: ReferenceSet | None = None,
        at: Mapping[str, At] | None = None,
        extras: Mapping[str, float] | None = None,
    ) -> Metric:
        """The same number as it is stored."""
        interval = None
        if self.low is not None and self.high is not None:
            interval = Interval(low=self.low, high=self.high, level=LEVEL, method=self.method)
        return Metric(
            name=name,
            value=self.value,
            unit=unit,
            n=self.n,
            interval=interval,
            direction=direction,
            convention=convention,
            reference=reference,
            at=dict(at or {}),
            how=how,
            extras=dict(extras or {}),
            flags=self.flags,
            reason=self.reason,
        )


@dataclass(frozen=True, slots=True)
class Repeated:
    """The mean over parts of the data, and how far the parts scatter (standard deviation, not an error bar)."""

    estimate: Estimate
    spread: float | None = None
    values: tuple[float, ...] = ()


def missing(reason: str, n: int = 0) -> Estimate:
    """No value, and why."""
    return Estimate(None, n=n, reason=reason)


def around(value: float, error: float, method: str, n: int, flags: tuple[str, ...] = ()) -> Estimate:
    """`value` with the normal interval of the standard error `error`."""
    return Estimate(value, value - Z * error, value + Z * error, method, n, flags)


def around_root(
    value: float, error: float, method: str, n: int, flags: tuple[str, ...] = (), quantile: float = Z
) -> Estimate:
    """`value`, a squared distance, with the interval of its root, squared, whose limits are at 0 or above.

    The error of a squared distance grows with it, that of its root does not, so draws that are too small have too small
    an error: both limits are higher by half^2 / (4 value). Where the value is below half the width, by a quarter of it.
    """
    half = quantile * error
    higher = half * half / (4 * max(value, half)) if half > 0 else 0.0
    return bounded(Estimate(value, value - half + higher, value + half + higher, method, n, flags))


def second_order(jackknife: float, overshoot: float) -> float:
    """The variance of a statistic of second order from that of its jackknife, which counts the quadratic part twice.

    `overshoot` is that part, estimated without bias. Where it is all that there is, single differences are below it,
    and even below 0: they are kept, since to lift each to what a variance is at least (the quadratic part alone) makes
    the mean of them a fifth to a third too large. Only below a quarter of the jackknife's is that quarter taken.
    """
    return max(jackknife / 4, jackknife - overshoot)


def bounded(estimate: Estimate, least: float = 0.0, most: float = math.inf) -> Estimate:
    """The same with limits from `least` to `most`, beyond which what is estimated cannot lie."""
    if estimate.low is None or estimate.high is None:
        return estimate
    low, high = (min(max(limit, least), most) for limit in (estimate.low, estimate.high))
    return replace(estimate, low=low, high=high)


HEAVY, LEAST = 50, 20


def heavy_tailed(values: NDArray[np.float64]) -> bool:
    """Whether a few of the values decide their mean, so that its error cannot be told from the others.

    That is an excess kurtosis above n / HEAVY and above LEAST: an error bar is then off by a tenth and more, and lower
    in draws without an outlier, whose mean is lower too. In simulations (docs/coverage.md) intervals of such values
    miss the truth two to three times as often as they say.
    """
    away = values - values.mean()
    variance = float(np.mean(away**2))
    return variance > 0 and float(np.mean(away**4)) / variance**2 - 3 > max(LEAST, len(values) / HEAVY)


def student(degrees: int) -> float:
    """Two-sided quantile of Student's distribution at `LEVEL`, by the function behind `scipy.stats.t.ppf`.

    (Importing `scipy.stats` takes longer than many a command.)
    """
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + LEVEL) / 2))


def mean_with_interval(values: ArrayLike) -> Estimate:
    """The mean of independent values (one per image) with Student's t interval.

    A single value has no interval, and neither have values of which a few decide the mean (`heavy_tailed`).
    """
    array: NDArray[np.float64] = np.asarray(values, dtype=np.float64).reshape(-1)
    n = len(array)
    if n == 0:
        return missing("no values")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        return missing(f"{bad} of {n} values are not finite", n)
    mean = float(array.mean())
    if n == 1:
        return Estimate(mean, n=1, flags=("no_interval",))
    if heavy_tailed(array):
        return Estimate(mean, n=n, flags=("heavy_tails",))
    half = student(n - 1) * float(array.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, "t", n)


def of_totals(rows: NDArray[np.float64], function: Callable[[NDArray[np.float64]], float | None]) -> Estimate:
    """`function` of the sums over images of `rows` (n, k), with the interval of the jackknife that leaves out one.

    `function` gives None where it is not defined; without one image it then has no interval.
    """
    n, totals = len(rows), rows.sum(0)
    value = function(totals) if n else None
    if value is None:
        return missing("not defined for these images", n)
    others = [function(totals - row) for row in rows]
    known = np.array([other for other in others if other is not None])
    if n < 2 or len(known) < n:
        return Estimate(value, n=n, flags=("no_interval",))
    if heavy_tailed(known):
        return Estimate(value, n=n, flags=("heavy_tails",))
    half = student(n - 1) * math.sqrt((n - 1) / n * float(((known - known.mean()) ** 2).sum()))
    return Estimate(value, value - half, value + half, "jackknife", n)


def share(hits: int, n: int, method: str = "wilson") -> Estimate:
    """A share `hits / n` with Wilson's score interval (E. B. Wilson, JASA 22, 1927), which stays within [0, 1]."""
    if n == 0:
        return missing("no samples")
    p = hits / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n * n))
    # the limits at 0 and n hits are 0 and 1 exactly; keep rounding from pushing them past the value
    return Estimate(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)), method, n)
