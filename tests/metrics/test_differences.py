"""Paired differences: what they are by other means, that pairing narrows them, and that strangers gain nothing."""

from __future__ import annotations

import numpy as np
import pytest

from arbench.measure.statistics import interval_over_processes
from arbench.metrics import differences
from arbench.metrics.estimate import Estimate, mean_with_interval
from arbench.metrics.sets.frechet import frechet
from arbench.metrics.sets.kernel import cmmd, kid
from arbench.metrics.sets.moments import Factored

DRAW = np.random.default_rng(0)
REAL = DRAW.normal(size=(400, 8))
OLD = DRAW.normal(size=(300, 8)) * 1.1
NEAR = OLD + 0.02 * DRAW.normal(size=OLD.shape)
OTHER = DRAW.normal(size=OLD.shape) * 1.1


def test_frechet_is_the_difference_of_both_and_narrow_for_near_copies():
    real = Factored.of(REAL)
    near, other = differences.of_frechet(OLD, NEAR, real), differences.of_frechet(OLD, OTHER, real)
    unpaired = differences.of_independent(frechet(OLD, real), frechet(OTHER, real))
    assert near.sides == pytest.approx((frechet(OLD, real).value, frechet(NEAR, real).value))
    assert near.width < 0.15 * other.width
    assert other.width == pytest.approx(unpaired.width, rel=0.25)
    same = differences.of_frechet(OLD, OLD.copy(), real)
    assert same.value == 0
    assert same.width == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("kernel", "function", "scale"), [("polynomial", kid, 1), ("gaussian", cmmd, 1000)])
def test_kernel_difference(kernel, function, scale):
    near, other = differences.of_kernel(OLD, NEAR, REAL, kernel), differences.of_kernel(OLD, OTHER, REAL, kernel)
    first, second = function(OLD, REAL), function(NEAR, REAL)
    # CMMD is published with the diagonal, whose part of the two is alike
    assert scale * near.value == pytest.approx(second.value - first.value, rel=0.02, abs=1e-6)
    assert near.width < 0.2 * other.width
    assert differences.of_kernel(OLD, OLD.copy(), REAL, kernel).width == pytest.approx(0, abs=1e-9)


def test_variances_are_those_of_repeated_draws():
    """Of skewed lengths, and as far from the reference: noise hides the linear part of a variance."""
    draw, real = np.random.default_rng(1), Factored.of(REAL[:, :4])
    values, variances = [], []
    for _ in range(300):
        sets = [draw.normal(size=(60, 4)) * np.exp(0.3 * draw.normal(size=(60, 1))) for _ in range(2)]
        found = differences.of_frechet(*sets, real), differences.of_kernel(*sets, REAL[:, :4], "polynomial")
        values.append([each.value for each in found])
        variances.append([(each.width / 2 / 1.96) ** 2 for each in found])
    frechet_ratio, kernel_ratio = np.mean(variances, axis=0) / np.var(values, axis=0)
    assert frechet_ratio == pytest.approx(1.1, abs=0.2)  # 1.7 with the law that smooths the lengths of one set
    assert kernel_ratio == pytest.approx(1.0, abs=0.2)


def test_means_are_a_paired_t():
    found = differences.of_means(OLD[:, 0], NEAR[:, 0])
    by_hand = mean_with_interval(NEAR[:, 0] - OLD[:, 0])
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))
    assert differences.of_means(OLD[:1, 0], NEAR[:1, 0]).low is None
    assert differences.of_means(OLD[:, 0], np.full(300, np.nan)).reason == "values that are not finite"


def score_of(won, lost, n, d):
    """Tango's statistic, the most likely share of lost samples found by trying them all."""
    q = np.linspace(max(0, -d), (1 - d) / 2, 200001)
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = won * np.log(q + d) + (lost * np.log(q) if lost else 0) + (n - won - lost) * np.log(1 - 2 * q - d)
    best = q[np.nanargmax(likelihood)]
    return (won - lost - n * d) / np.sqrt(n * (2 * best + d * (1 - d)))


@pytest.mark.parametrize(("won", "lost", "n"), [(1, 0, 44), (9, 4, 120), (3, 12, 60)])
def test_shares_have_the_limits_of_the_score_test(won, lost, n):
    first, second = np.zeros(n, bool), np.zeros(n, bool)
    second[:won] = True
    first[won : won + lost] = True
    first[-5:] = second[-5:] = True
    found = differences.of_shares(first, second)
    assert found.value == pytest.approx((won - lost) / n)
    assert score_of(won, lost, n, found.high) == pytest.approx(-1.96, abs=0.01)
    assert score_of(won, lost, n, found.low) == pytest.approx(1.96, abs=0.01)
    back = differences.of_shares(second, first)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))
    assert differences.of_shares(first, first).low < 0 < differences.of_shares(first, first).high


def test_independent_limits_take_the_arms_that_point_to_them():
    first, second = Estimate(10, 9, 12), Estimate(13, 10, 14)
    found = differences.of_independent(first, second)
    assert (found.low, found.high) == pytest.approx((3 - np.hypot(3, 2), 3 + np.hypot(1, 1)))
    assert differences.of_independent(Estimate(1), second).reason
    ratio = differences.of_ratio(first, second)
    assert ratio.value == pytest.approx(1.3)
    assert ratio.low < 1.3 < ratio.high
    assert differences.of_ratio(Estimate(1, -1, 2), second).low is None


def test_intervals_of_another_run_are_averaged_and_hold_no_change_as_often_as_they_say():
    """Two runs of five processes each, alike: 4 standard errors of 2000 trials at 95 % are 0.0195."""
    hits = 0
    for pair in np.exp(0.02 * np.random.default_rng(7).normal(size=(2000, 2, 5))):
        ends = [interval_over_processes(medians) for medians in pair]
        runs = [
            Estimate(float(np.exp(np.log(medians).mean())), *bounds) for medians, bounds in zip(pair, ends, strict=True)
        ]
        found = differences.of_runs(*runs)
        hits += found.low <= 1 <= found.high
    assert found.width < differences.of_ratio(*runs).width
    assert 0.95 - 0.0195 < hits / 2000 < 0.985  # two variances are known where each interval knows one
    assert differences.of_runs(Estimate(1.0), Estimate(2.0)).low is None
