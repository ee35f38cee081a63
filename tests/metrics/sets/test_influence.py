"""The jackknife of single samples against distances computed anew, its quadratic part against second differences."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from arbench.metrics.sets.frechet import frechet, frechet_distance, roots_of
from arbench.metrics.sets.influence import influence, overshoot
from arbench.metrics.sets.moments import Factored, Moments, moments

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
    ours = influence(rows, found, real, roots_of(found, real))
    # 16 sets of signs know the sum of 435 squares, of which a few pairs rule, to a quarter
    assert ours.squares == pytest.approx(expected, rel=0.5)
    assert overshoot(ours) == pytest.approx(2 * ours.squares / 900)


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


def test_the_interval_is_right_on_skewed_features_and_there_is_none_on_heavy_tails() -> None:
    reference = Factored.of(_skewed(np.random.default_rng(1), 3000, 0.0))
    found = [frechet(_skewed(np.random.default_rng([2, i]), 800, 0.0), reference) for i in range(200)]
    pairs = np.array([(each.value, each.high) for each in found if each.value is not None and each.high is not None])
    assert len(pairs) >= 195  # one draw in a hundred has an outlier
    values, halves = pairs[:, 0], pairs[:, 1] - pairs[:, 0]
    # 200 draws know their standard deviation to 5 %; the plain jackknife of these is 1.2 times too wide
    assert halves.mean() / 1.96 / values.std(ddof=1) == pytest.approx(1, abs=0.15)
    assert np.mean(np.abs(values - values.mean()) <= halves) >= 0.90  # probability 1e-3
    heavy = [frechet(_skewed(np.random.default_rng([3, i]), 800, 0.7), reference) for i in range(20)]
    assert sum("heavy_tails" in each.flags and each.low is None for each in heavy) >= 18
