"""Statistics of timings that assume no distribution: medians, order-statistics intervals, honest percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

TREND_BLOCKS = 200
"""Series longer than twice this are reduced to medians of blocks before the trend test, which is quadratic."""


def _series(values: ArrayLike) -> NDArray[np.float64]:
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or not len(series) or not np.isfinite(series).all():
        raise ValueError("timings are a non-empty sequence of finite numbers")
    return series


def median(values: ArrayLike) -> float:
    return float(np.median(_series(values)))


def quantile_interval(values: ArrayLike, q: float, level: float = 0.95) -> tuple[float, float] | None:
    """Two order statistics that hold the true q-quantile with probability >= `level`, or None if n is too small.

    The number of values below the quantile is Binomial(n, q) (David & Nagaraja, Order Statistics, 7.1).
    """
    from scipy import stats  # two seconds, which a fresh worker would take before its first call

    series = np.sort(_series(values))
    count, tail = len(series), (1 - level) / 2
    low = int(stats.binom.ppf(tail, count, q))  # P(X < low) <= tail
    high = int(stats.binom.isf(tail, count, q)) + 1  # P(X >= high) <= tail
    if low < 1 or high > count:
        return None
    return float(series[low - 1]), float(series[high - 1])


def median_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """As `quantile_interval` for the median; None below 6 values at 95 %."""
    return quantile_interval(values, 0.5, level)


def interval_over_processes(
    medians: ArrayLike, *, unsteady: bool = False, level: float = 0.95
) -> tuple[float, float] | None:
    """Where another run of as many fresh processes lands, of which the geometric mean is taken: Student's prediction
    interval around the geometric mean of one median a process. None below 3 processes.

    Calls of one process share its memory layout, clocks and choice of kernels, so an interval over calls is too short
    for the next process. On a steady machine the processes of both runs are alike, and their means differ with 2/k of
    the variance between processes. On an `unsteady` one neighbours are alike and the next run is not: the variance is
    that of a random walk from process to process, of which the k medians show the less (k+1)/6 of a step's and two runs
    in a row differ by (2k^2+1)/(3k) of it. With independent processes or lasting loads it covers more often than that.
    """
    from scipy.special import stdtrit

    series = np.log(_series(medians))
    k = len(series)
    if k < 3:
        return None
    share = 2 * (2 * k * k + 1) / (k * (k + 1)) if unsteady else 2 / k
    reach = float(stdtrit(k - 1, (1 + level) / 2)) * float(series.std(ddof=1)) * math.sqrt(share)
    return math.exp(series.mean() - reach), math.exp(series.mean() + reach)


def half_width(values: ArrayLike) -> float | None:
    """Half the 95 % interval of the median, over the median; None where there is no interval."""
    bounds = median_interval(values)
    return None if bounds is None else (bounds[1] - bounds[0]) / 2 / median(values)


def narrow(values: ArrayLike, width: float) -> bool:
    """Whether half the interval of the median is there and at most this fraction of the median."""
    found = half_width(values)
    return found is not None and found <= width


def needed_for(q: float, confidence: float = 0.95) -> int:
    """Values needed so that the largest of them bounds the q-quantile from above: ln(1 - confidence) / ln(q)."""
    return math.ceil(math.log(1 - confidence) / math.log(q))


def percentile(values: ArrayLike, q: float) -> float | None:
    """The q-quantile (linear interpolation), or None where fewer than `needed_for(q)` values are there."""
    series = _series(values)
    return float(np.quantile(series, q)) if len(series) >= needed_for(q) else None


def relative_iqr(values: ArrayLike) -> float:
    """Interquartile range over the median."""
    low, middle, high = np.quantile(_series(values), [0.25, 0.5, 0.75])
    return float((high - low) / middle)


@dataclass(frozen=True, slots=True)
class Trend:
    """p: Mann-Kendall's, two-sided. change: Theil-Sen slope times the length, over the median."""

    p: float
    change: float

    @property
    def drifts(self) -> bool:
        """A change that is both unlikely by chance and worth a remark: p < 1 % and more than 2 % over the series."""
        return self.p < 0.01 and abs(self.change) > 0.02


def trend(values: ArrayLike) -> Trend:
    """Whether a series goes up or down with time. Fewer than 4 values never do."""
    series = _series(values)
    if len(series) > 2 * TREND_BLOCKS:
        series = np.array([np.median(block) for block in np.array_split(series, TREND_BLOCKS)])
    if len(series) < 4 or np.ptp(series) == 0:
        return Trend(1.0, 0.0)
    from scipy import stats

    steps = np.arange(len(series))
    p = float(stats.kendalltau(steps, series).pvalue)
    slope = float(stats.theilslopes(series, steps).slope)
    return Trend(p, slope * (len(series) - 1) / float(np.median(series)))


def agree(values: Sequence[float], tolerance: float) -> bool:
    """Whether the largest is at most `tolerance` (a fraction) above the smallest."""
    return max(values) <= min(values) * (1 + tolerance)
