"""The jackknife of single samples against distances computed anew, its quadratic part against second differences."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtri

from arbench.metrics.estimate import Estimate
from arbench.metrics.sets.frechet import frechet, frechet_distance, roots_of
from arbench.metrics.sets.influence import _added, _mean_product, _reduced, _tail, influence
from arbench.metrics.sets.moments import Factored, Moments, moments
from arbench.metrics.sets.score_interval import WIDER

pytestmark = pytest.mark.numerical

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (300, 12))
FAKE = _DRAW.gamma(0.55, 0.8, (60, 12))


def test_every_sample_is_left_out_exactly() -> None:
    real, found = Factored.of(REAL), moments(FAKE)
    n, whole = len(FAKE), frechet_distance(found, real)
    left = np.array([frechet_distance(moments(np.delete(FAKE, i, axis=0)), real) for i in range(n)])
    ours = influence(FAKE, found, real, roots_of(found, real)).values[0]
    # the trapezoidal rule in steps of 1 has an error of e^(-pi^2), 5e-5 of each of its terms, which partly cancel
    np.testing.assert_allclose(ours, (n - 1) * (whole - left), atol=1e-3 * np.abs(ours).max())


def test_with_fewer_samples_than_dimensions_too() -> None:
    draw = np.random.RandomState(1)
    fake, real = draw.gamma(0.5, 0.8, (20, 40)), Factored.of(draw.gamma(0.5, 0.8, (200, 40)))
    found, n = moments(fake), 20
    left = np.array([frechet_distance(moments(np.delete(fake, i, axis=0)), real) for i in range(n)])
    ours = influence(fake, found, real, roots_of(found, real)).values[0]
    theirs = (n - 1) * (frechet_distance(found, real) - left)
    # a root of 0 counts as 1e-3 of the largest, which moves all values alike and no variance
    np.testing.assert_allclose(ours - ours.mean(), theirs - theirs.mean(), atol=5e-3 * np.ptp(theirs))


@pytest.mark.parametrize("a", [30, 200])
def test_at_another_size_a_sample_weighs_as_it_would_there(a: int) -> None:
    real, found = Factored.of(REAL), moments(FAKE)
    ours = influence(FAKE, found, real, roots_of(found, real), [a]).values[0]
    for i in (0, 7):
        rest = moments(np.delete(FAKE, i, axis=0))
        before = frechet_distance(rest, real)
        # a - 1 samples of these moments, and one more: Chan's merge
        away = FAKE[i] - rest.mean
        scatter = rest.covariance * (a - 2) + np.outer(away, away) * (a - 1) / a
        after = frechet_distance(Moments(rest.mean + away / a, scatter / (a - 1), a), real)
        assert ours[i] == pytest.approx((a - 1) * (after - before), abs=1e-3 * np.abs(ours).max())


def _pairs(rows: NDArray[np.float64], real: Factored) -> NDArray[np.float64]:
    """(n, n) of q, from second differences of the distance by the weights of two samples."""
    n = len(rows)

    def distance(weights: NDArray[np.float64]) -> float:
        centre = weights @ rows
        covariance = (rows - centre).T @ ((rows - centre) * weights[:, None]) * n / (n - 1)
        return frechet_distance(Moments(centre, covariance, n), real)

    step, even = 1e-2 / n, np.full(n, 1 / n)
    towards = np.eye(n) - 1 / n
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            total = sum(
                one * two * distance(even + step * (one * towards[i] + two * towards[j]))
                for one in (-1, 1)
                for two in (-1, 1)
            )
            found[i, j] = found[j, i] = total / (8 * step**2)
    return found


def test_the_quadratic_part_is_that_of_second_differences() -> None:
    # of fewer samples, for the time it takes; ddof makes a factor n / (n - 1)
    rows, real = FAKE[:30, :4], Factored.of(REAL[:, :4])
    found = moments(rows)
    pairs = _pairs(rows, real)
    expected = float((pairs**2).sum() / (30 * 29))
    _, _, pairs = _reduced(rows, found, real, roots_of(found, real))
    signed = pairs.signed(16)
    ours = _mean_product(signed, signed)
    # 16 sets of signs know the sum of 435 squares, of which a few pairs rule, to a quarter
    assert ours == pytest.approx(expected, rel=0.5)


def test_the_quadratic_part_of_gaussian_rows_has_a_closed_form() -> None:
    draw, s = np.random.default_rng(2), np.linspace(0.3, 2, 40)
    real = Factored(Moments(np.zeros(40), np.diag(s), 10**6))
    rows = draw.normal(size=(4000, 40)) * np.sqrt(s)
    found = moments(rows)
    ours = influence(rows, found, real, roots_of(found, real)).squares
    # E (u_j u_k - [j = k])^2 is 1, or 2 on the diagonal; whitening by the sample itself takes off D / n
    squares = sum(float(np.square(each * s / (each + s)).sum()) for each in s)
    assert ours == pytest.approx(squares / 2 + float((s**2).sum()) / 8 + float((s**2).sum()), rel=0.05)


def _skewed(draw: np.random.Generator, n: int, scatter: float) -> NDArray[np.float64]:
    """Rectified normal rows whose length varies, as Inception's features do."""
    scale = np.arange(1, 33) ** -0.5
    return np.maximum(draw.normal(size=(n, 32)) * scale, 0) * np.exp(scatter * draw.normal(size=(n, 1)))


def test_the_interval_is_right_on_skewed_features() -> None:
    reference = Factored.of(_skewed(np.random.default_rng(1), 3000, 0.0))
    found = [frechet(_skewed(np.random.default_rng([2, i]), 800, 0.0), reference) for i in range(200)]
    values, halves = _halves(found)
    # 200 draws know their standard deviation to 6 %; the plain jackknife of these is 1.2 times too wide. Intervals of
    # values that are too large are wide (`score_interval`), and the mean of all is above the median
    assert np.median(halves) / 1.96 / values.std(ddof=1) == pytest.approx(WIDER, abs=0.2)
    assert np.mean([each.low <= values.mean() <= each.high for each in found]) >= 0.90  # type: ignore[operator]


def _halves(found: list[Estimate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values and half-widths; all have an interval."""
    limits = [(each.value, each.low, each.high) for each in found]
    assert all(None not in each for each in limits)
    values, low, high = np.array(limits, np.float64).T
    return values, (high - low) / 2


@pytest.mark.parametrize("stretched", [1.0, 1.15])
def test_the_interval_holds_on_heavy_tails(stretched: float) -> None:
    reference = Factored.of(_skewed(np.random.default_rng(1), 3000, 0.5))
    found = [frechet(stretched * _skewed(np.random.default_rng([3, i]), 400, 0.5), reference) for i in range(120)]
    values, halves = _halves(found)
    covered = np.mean([each.low <= values.mean() <= each.high for each in found])  # type: ignore[operator]
    assert covered >= 0.89  # probability 2e-3; the plain jackknife covers 85 %
    assert 1 <= np.median(halves) / 1.96 / values.std(ddof=1) < 1.6


def test_there_is_no_interval_where_single_samples_are_of_another_kind() -> None:
    reference = Factored.of(_skewed(np.random.default_rng(1), 3000, 0.0))
    rows = _skewed(np.random.default_rng(4), 800, 0.0)
    rows[:2] *= 30
    for method in ("delta", "jackknife"):
        found = frechet(rows, reference, method=method)
        assert found.low is None
        assert "heavy_tails" in found.flags


def test_there_is_no_interval_where_lengths_are_on_no_line() -> None:
    draw = np.random.default_rng(6)
    rows = draw.normal(size=(400, 8)) * np.where(np.arange(400) < 30, 1, 1e-8)[:, None]
    found = frechet(rows, draw.normal(size=(500, 8)))
    assert found.low is None
    assert "heavy_tails" in found.flags


def test_lengths_of_the_tail_follow_a_lognormal_law_and_its_ranks() -> None:
    lengths = np.exp(0.4 * np.random.default_rng(5).normal(size=1000) + 1)
    rows, stretch = _tail(lengths)
    assert sorted(set(rows.tolist())) == sorted(np.argsort(lengths)[-200:].tolist())
    new = np.sort(np.log(lengths[rows] * stretch))
    expected = 0.4 * ndtri(0.8 + 0.2 * (np.arange(len(new)) + 0.5) / len(new)) + 1
    np.testing.assert_allclose(new, expected, atol=0.2)
    # the longest keep their directions: lengths old and new go together
    assert np.corrcoef(np.log(lengths[rows]), np.log(lengths[rows] * stretch))[0, 1] > 0.6


def test_a_stretched_sample_is_put_back_further_away() -> None:
    real, found = Factored.of(REAL), moments(FAKE)
    n = len(FAKE)
    whole, each, _ = _reduced(FAKE, found, real, roots_of(found, real))
    ours = _added([n], whole, each, np.full(n, 2.5))[0]
    for i in (3, 5):
        moved = FAKE.copy()
        moved[i] = found.mean + 2.5 * (FAKE[i] - found.mean)
        left = frechet_distance(moments(np.delete(FAKE, i, axis=0)), real)
        assert ours[i] == pytest.approx((n - 1) * (frechet_distance(moments(moved), real) - left), rel=2e-3)
