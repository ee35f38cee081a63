"""Differences of one number between two sets of samples, with 95 % intervals: paired by sample, or of independent sets.

Samples of two versions of one model that share an id share class and noise, so their numbers move together, and the
difference is known better than either. Its variance comes from what each pair does to the difference. Intervals take
the reference as it is, as those of the numbers do. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import counted
from .estimate import Estimate, Z, heavy_tailed, student
from .rows import Rows
from .sets.frechet import frechet_influence
from .sets.kernel import Sums, difference_parts
from .sets.moments import Factored

FEW = 2
"""Below so many samples a difference of means has no interval."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """`value` is that of the second set less that of the first; `low` to `high` its interval, None with a `reason`.

    `sides` are the two numbers as they were computed here, where they were.
    """

    value: float
    low: float | None = None
    high: float | None = None
    method: str = ""
    reason: str = ""
    sides: tuple[float, float] | None = None

    @property
    def width(self) -> float | None:
        return None if self.low is None or self.high is None else self.high - self.low


def of_independent(first: Estimate, second: Estimate) -> Contrast:
    """Of two estimates with intervals, which may be asymmetric, from independent sets.

    Each limit combines the arms that point to it (the square-and-add method: Zou and Donner, Statistics in Medicine 27,
    2008; Newcombe's of 1998 for shares).
    """
    if first.value is None or second.value is None:
        raise ValueError("a difference is of two values")
    value = second.value - first.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Contrast(value, reason="one of the numbers has no interval")
    below = math.hypot(second.value - second.low, first.high - first.value)
    above = math.hypot(second.high - second.value, first.value - first.low)
    return Contrast(value, value - below, value + above, "square and add, unpaired")


def of_ratio(first: Estimate, second: Estimate) -> Contrast:
    """Of the ratio second / first of two positive estimates from independent sets: `of_independent` on logarithms."""
    if first.value is None or second.value is None or first.value <= 0 or second.value <= 0:
        raise ValueError("a ratio is of two positive values")
    one, two = _logarithm(first), _logarithm(second)
    if one is None or two is None:
        return Contrast(second.value / first.value, reason="one of the numbers has no interval")
    found = of_independent(one, two)
    assert found.low is not None  # both have intervals
    assert found.high is not None
    method = "square and add of logarithms, unpaired"
    return Contrast(math.exp(found.value), math.exp(found.low), math.exp(found.high), method)


def of_runs(first: Estimate, second: Estimate) -> Contrast:
    """Of the ratio second / first of two positive estimates whose intervals say where another run's number lands.

    Such an interval is that of the difference of two runs already, so the two are averaged (their squares, on
    logarithms) rather than added. It holds 1 as often as it says where nothing has changed.
    """
    apart = of_ratio(first, second)
    if apart.low is None or apart.high is None:
        return apart
    below, above = (math.log(end / apart.value) / math.sqrt(2) for end in (apart.low, apart.high))
    method = "mean square of both runs' intervals"
    return Contrast(apart.value, apart.value * math.exp(below), apart.value * math.exp(above), method)


def _logarithm(one: Estimate) -> Estimate | None:
    if one.value is None or one.low is None or one.high is None or one.low <= 0:
        return None
    return Estimate(math.log(one.value), math.log(one.low), math.log(one.high))


def of_means(first: NDArray[Any], second: NDArray[Any]) -> Contrast:
    """Of the means of paired values (n,), by Student's t on their differences."""
    apart = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    value, n = float(apart.mean()), len(apart)
    sides = float(np.mean(first)), float(np.mean(second))
    if n < FEW:
        return Contrast(value, reason=counted(n, "sample"), sides=sides)
    if not np.isfinite(apart).all():
        return Contrast(value, reason="values that are not finite", sides=sides)
    if heavy_tailed(apart):
        return Contrast(value, reason="a few samples decide the difference", sides=sides)
    half = student(n - 1) * float(apart.std(ddof=1)) / math.sqrt(n)
    return Contrast(value, value - half, value + half, "t, paired", sides=sides)


def of_shares(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Contrast:
    """Of the shares of hits among paired samples (n,): Tango's score interval (Statistics in Medicine 17, 1998).

    Only samples that are a hit once and a miss once say anything; without any, the interval is +-z^2 / (n + z^2), and
    where few are expected it covers more often than it says: their number is whole (docs/coverage-paired.md).
    """
    n = len(first)
    if n == 0:
        return Contrast(0.0, reason="no samples")
    won, lost = int(np.count_nonzero(~first & second)), int(np.count_nonzero(first & ~second))
    value = (won - lost) / n
    high = _tango(won, lost, n)
    return Contrast(
        value, -_tango(lost, won, n), high, "Tango, paired", sides=(float(first.mean()), float(second.mean()))
    )


def _tango(won: int, lost: int, n: int) -> float:
    """The largest difference d at which (won - lost - n d) / sqrt(n (2 q + d (1 - d))) is above -Z, by bisection; q is
    the most likely share of lost samples at this d."""

    def within(d: float) -> bool:
        b, c = -won - lost + (2 * n - won + lost) * d, -lost * d * (1 - d)
        q = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        return won - lost - n * d >= -Z * math.sqrt(max(n * (2 * q + d * (1 - d)), 0.0))

    low, high = (won - lost) / n, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return high


def of_frechet(first: Rows, second: Rows, real: Factored) -> Contrast | None:
    """Of two Frechet distances to one reference, of sets (n, D) whose rows belong together: by the influences.

    None where one of the distances has no value.
    """
    found, other = frechet_influence(first, real), frechet_influence(second, real)
    if isinstance(found, Estimate) or isinstance(other, Estimate):
        return None
    (one, own), (two, theirs) = found, other
    sides = one, two
    if own.heavy or theirs.heavy:
        return Contrast(two - one, reason="so few samples decide a distance that its error cannot be told", sides=sides)
    return _normal(two - one, own.apart(theirs), "influences, paired", sides)


def of_kernel(
    first: Rows, second: Rows, reference: Rows, kernel: str, known: Callable[[], Sums] | None = None
) -> Contrast | None:
    """Of two kernel distances ("polynomial": KID, "gaussian": CMMD / 1000, unbiased) to one reference, as `of_frechet`.

    The difference is a U-statistic over pairs of paired samples; its variance has the linear and the quadratic part,
    estimated without bias. `known` tells the sums within the reference, as in `kid`.
    """
    found = difference_parts(first, second, reference, kernel, known)
    if found is None:
        return None
    sides = found.first, found.second
    return _normal(found.second - found.first, found.variance, "u-statistic, paired", sides)


def _normal(value: float, variance: float, method: str, sides: tuple[float, float]) -> Contrast:
    half = Z * math.sqrt(variance)
    return Contrast(value, value - half, value + half, method, sides=sides)
