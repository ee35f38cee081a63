"""Intervals of means and shares against SciPy, and the way into a stored metric."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from arbench.metrics.estimate import Estimate, Z, around_root, bounded, mean_with_interval, missing, share


def test_mean_has_students_interval() -> None:
    values = np.random.default_rng(0).gamma(2, 1, 25)
    ours = mean_with_interval(values)
    low, high = scipy.stats.t.interval(0.95, 24, values.mean(), scipy.stats.sem(values))
    assert (ours.value, ours.low, ours.high) == pytest.approx((values.mean(), low, high))
    assert (ours.n, ours.method) == (25, "t")


def test_a_mean_that_a_few_values_decide_has_no_interval() -> None:
    values = np.random.default_rng(0).normal(30, 2, 300)
    assert mean_with_interval(values).flags == ()
    values[7] = 100  # an identical pair among PSNRs
    found = mean_with_interval(values)
    assert (found.low, found.high, found.flags) == (None, None, ("heavy_tails",))
    assert found.value == pytest.approx(values.mean())


def test_limits_are_cut_and_flags_stand_once() -> None:
    cut = bounded(Estimate(0.1, -0.2, 0.4, "t", 9))
    assert (cut.low, cut.high) == (0.0, 0.4)
    assert bounded(Estimate(0.1, 0.05, 0.4)).low == 0.05
    assert bounded(Estimate(0.9, 0.7, 1.1, "t", 9), most=1) == Estimate(0.9, 0.7, 1, "t", 9)
    assert bounded(missing("nothing"), most=1) == missing("nothing")
    assert Estimate(1.0, flags=("a",)).flagged(["a", "b"]).flags == ("a", "b")


def test_mean_of_one_or_none_or_broken_values() -> None:
    one = mean_with_interval([3.0])
    assert (one.value, one.low, one.flags) == (3.0, None, ("no_interval",))
    assert mean_with_interval([]).reason == "no values"
    assert mean_with_interval([1.0, np.inf, np.nan]).reason == "2 of 3 values are not finite"


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (988, 1000), (1, 3), (0, 1)])
def test_share_has_wilsons_interval(hits: int, n: int) -> None:
    ours = share(hits, n)
    theirs = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert ours.value == hits / n
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_an_estimate_is_stored_whole() -> None:
    metric = share(3, 4).flagged(["odd"]).metric("agreement", "mnist-classifier", "fraction", "higher")
    assert (metric.value, metric.n, metric.flags, metric.direction) == (0.75, 4, ("odd",), "higher")
    assert metric.interval is not None
    assert metric.interval.method == "wilson"
    assert metric.interval.low < 0.75 < metric.interval.high
    empty = missing("no samples").metric("agreement", "mnist-classifier")
    assert (empty.value, empty.interval, empty.reason) == (None, None, "no samples")


@pytest.mark.parametrize(("value", "error"), [(4.0, 0.5), (1.0, 0.01), (2.0, 1.0)])
def test_the_interval_of_a_squared_distance_is_that_of_its_root(value: float, error: float) -> None:
    found = around_root(value, error, "delta", 100)
    half = Z * error / (2 * value**0.5)
    assert found.low == pytest.approx((value**0.5 - half) ** 2)
    assert found.high == pytest.approx((value**0.5 + half) ** 2)


def test_the_interval_of_a_distance_near_zero_stays_there() -> None:
    found = around_root(1e-12, 0.01, "delta", 100)
    assert (found.low, found.high) == (0.0, pytest.approx(1.25 * Z * 0.01))
    assert around_root(0.0, 0.0, "delta", 100).high == 0
