"""Timing statistics against brute force, exact sums and NumPy."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from arbench.measure import statistics

SERIES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60)


def coverage(n: int, low: int, high: int) -> Fraction:
    """Probability that the median lies between order statistics `low` and `high` (from 1), by counting."""
    return Fraction(sum(math.comb(n, k) for k in range(low, high)), 2**n)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 10, 11, 30, 31, 100, 151])
def test_median_interval_is_the_shortest_symmetric_pair_that_covers(n):
    found = statistics.median_interval(np.arange(1, n + 1)[::-1])
    pairs = [(low, n + 1 - low) for low in range(1, n // 2 + 1)]
    covering = [pair for pair in pairs if coverage(n, *pair) >= Fraction(95, 100)]
    assert found == (covering[-1] if covering else None)


def test_median_interval_covers_as_often_as_it_says():
    draws = np.random.default_rng(3).exponential(size=(1000, 15))
    intervals = [statistics.median_interval(row) for row in draws]
    hits = np.mean([low <= math.log(2) <= high for low, high in intervals])
    # exact: 1 - 2 P(Bin(15, 1/2) <= 3) = 0.9648; 4 standard errors of 1000 trials are 0.0234
    assert abs(hits - 0.9648) < 0.0234


def runs_of(kind, count, trials=2000):
    """Log medians of the processes of two runs, one right after the other: (trials, count) each."""
    rng = np.random.default_rng(count)
    noise = rng.normal(size=(trials, 2 * count))
    if kind == "random walk":
        noise = np.cumsum(noise, axis=1)
    elif kind == "random walk and noise":
        noise = np.cumsum(noise, axis=1) + rng.normal(size=noise.shape)
    elif kind == "load of each run":
        noise += np.repeat(rng.normal(size=(trials, 2)), count, axis=1)
    elif kind.startswith("AR(1)"):
        rho = float(kind.split()[1])
        for step in range(1, 2 * count):
            noise[:, step] = rho * noise[:, step - 1] + math.sqrt(1 - rho**2) * noise[:, step]
    return 0.02 * noise[:, :count], 0.02 * noise[:, count:]


def covered(kind, count, *, unsteady):
    hits = 0
    for first, second in zip(*runs_of(kind, count), strict=True):
        low, high = statistics.interval_over_processes(np.exp(first), unsteady=unsteady)
        hits += low <= np.exp(second.mean()) <= high
    return hits / 2000


@pytest.mark.parametrize("count", [3, 7])
def test_the_interval_over_processes_covers_the_next_run(count):
    """4 standard errors of 2000 trials at 95 % are 0.0195."""
    assert abs(covered("alike", count, unsteady=False) - 0.95) < 0.0195


@pytest.mark.parametrize("count", [3, 7])
@pytest.mark.parametrize(
    "kind", ["random walk", "random walk and noise", "load of each run", "AR(1) 0.5", "AR(1) 0.8", "AR(1) 0.95"]
)
def test_on_an_unsteady_machine_too(kind, count):
    assert covered(kind, count, unsteady=True) > 0.95 - 0.0195
    if kind != "AR(1) 0.5":
        assert covered(kind, count, unsteady=False) < 0.9, "the other rule would do"


def test_fewer_than_three_processes_have_no_interval():
    assert statistics.interval_over_processes([1.0, 1.1]) is None


@pytest.mark.parametrize(("q", "needed"), [(0.9, 29), (0.95, 59), (0.99, 299)])
def test_percentiles_only_where_the_largest_value_bounds_them(q, needed):
    assert statistics.needed_for(q) == needed
    assert 1 - q**needed >= 0.95 > 1 - q ** (needed - 1)
    values = np.random.default_rng(0).normal(10, 1, needed)
    assert statistics.percentile(values[:-1], q) is None
    assert statistics.percentile(values, q) == pytest.approx(np.percentile(values, 100 * q), rel=1e-15)


def test_needed_for_other_confidence():
    assert statistics.needed_for(0.99, 0.99) == 459


@settings(deadline=None, max_examples=40)
@given(SERIES)
def test_median_and_spreads_by_sorting(values):
    ordered = sorted(values)
    n = len(ordered)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    assert statistics.median(values) == pytest.approx(middle, rel=1e-12)
    quartiles = np.percentile(values, [25, 75])
    assert statistics.relative_iqr(values) == pytest.approx((quartiles[1] - quartiles[0]) / middle, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=400), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_percentiles_and_intervals_agree_with_numpy_and_scipy(values, q):
    """The interval is SciPy's own of the quantile where that is no wider; percentiles are NumPy's."""
    found = statistics.percentile(values, q)
    assert found is None if len(values) < statistics.needed_for(q) else found == np.percentile(values, 100 * q)
    theirs = stats.quantile_test(values, q=np.median(values), p=q).confidence_interval(0.95)
    ours = statistics.quantile_interval(values, q)
    if ours is None:
        assert math.isnan(theirs.low) or math.isnan(theirs.high)
    else:
        assert ours == (theirs.low, theirs.high)


def test_half_width_of_the_median():
    values = np.arange(1, 12)  # the interval of 11 values is from the 2nd to the 10th
    assert statistics.half_width(values) == pytest.approx(4 / 6)
    assert statistics.narrow(values, 0.67)
    assert not statistics.narrow(values, 0.66)
    assert statistics.half_width(values[:5]) is None
    assert not statistics.narrow(values[:5], 1.0)


def test_mann_kendall_and_theil_sen_by_brute_force():
    values = np.random.default_rng(5).normal(0, 1, 25) + 10 + 0.2 * np.arange(25)
    n = len(values)
    s = sum(np.sign(values[j] - values[i]) for i in range(n) for j in range(i + 1, n))
    slopes = [(values[j] - values[i]) / (j - i) for i in range(n) for j in range(i + 1, n)]
    found = statistics.trend(values)
    assert found.change == pytest.approx(np.median(slopes) * (n - 1) / np.median(values), rel=1e-12)
    z = s / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    # scipy's p is exact for small n, the normal one is its limit
    assert found.p == pytest.approx(math.erfc(z / math.sqrt(2)), abs=2e-3)
    assert found.drifts


def test_drift_needs_both_a_trend_and_a_size():
    steps = np.arange(40)
    assert statistics.trend(1 + 0.01 * steps).drifts
    assert statistics.trend(1 - 0.01 * steps).drifts
    tiny = statistics.trend(1 + 1e-5 * steps)
    assert tiny.p < 0.01
    assert not tiny.drifts
    assert not statistics.trend(1 + 0.3 * np.random.default_rng(0).random(40)).drifts
    assert not statistics.trend([1.0, 2.0, 3.0]).drifts
    assert not statistics.trend([2.0] * 20).drifts


def test_trend_of_a_long_series_is_found_in_blocks():
    noise = np.random.default_rng(1).normal(0, 0.05, 20_000)
    assert not statistics.trend(1 + noise).drifts
    found = statistics.trend(1 + noise + np.linspace(0, 0.1, 20_000))
    assert found.drifts
    assert found.change == pytest.approx(0.1 / 1.05, rel=0.1)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [[1.0]], [float("inf")]])
def test_what_is_not_a_series_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        statistics.median(values)
