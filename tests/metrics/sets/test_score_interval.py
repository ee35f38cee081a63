"""The interval by the law at its limits: closed forms, the cumulants of prefixes by sums over samples, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from arbench.metrics.estimate import Estimate, Z
from arbench.metrics.sets.frechet import frechet, frechet_distance, roots_of
from arbench.metrics.sets.influence import influence
from arbench.metrics.sets.moments import Factored, Moments, moments
from arbench.metrics.sets.score_interval import WIDER, Scatter, of_prefixes, scatter

pytestmark = pytest.mark.numerical

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (300, 12))
FAKE = _DRAW.gamma(0.55, 0.8, (60, 12))


def _as_derived(found: Estimate) -> tuple[float, float]:
    """The limits before the half-width is made wider."""
    assert found.low is not None
    assert found.high is not None
    middle, half = (found.low + found.high) / 2, (found.high - found.low) / 2 / WIDER
    return middle - half, middle + half


def test_without_slope_and_skewness_it_is_the_normal_interval() -> None:
    found = Scatter(0.04, 0.04, 0.0, 0.0).around(3.0, "m", 9, ("f",))
    assert (found.low, found.high) == (pytest.approx(3 - WIDER * Z * 0.2), pytest.approx(3 + WIDER * Z * 0.2))
    assert (found.value, found.method, found.n, found.flags) == (3.0, "m", 9, ("f",))
    still = Scatter(0.0, 0.0, 0.0, 0.0).around(3.0, "m", 9)
    assert (still.low, still.high) == (3.0, 3.0)


def test_at_its_limits_the_value_is_a_quantile_of_the_law_there() -> None:
    law, value = Scatter(0.04, 0.04, 0.003, 0.002), 1.0
    low, high = _as_derived(law.around(value, "m", 9))
    slope, third = 0.003 / 0.04, 0.002 / 0.04
    for limit, z in ((low, Z), (high, -Z)):
        deviation = math.sqrt(0.04 + slope * (limit - value))
        assert value - limit == pytest.approx(z * deviation + third * (z * z - 1) / 6)


def test_of_a_mean_it_is_halls_correction_for_skewness() -> None:
    # for a mean the covariance with the estimated variance is the third cumulant: (2 z^2 + 1) / 6 times the skewness
    deviation, skewness = 0.1, 0.02
    third = skewness * deviation**3
    found = Scatter(deviation**2, deviation**2, third, third).around(1.0, "m", 9)
    assert found.low is not None
    assert found.high is not None
    assert (found.low + found.high) / 2 - 1 == pytest.approx(deviation * skewness * (2 * Z**2 + 1) / 6)


def test_prefixes_add_up_as_their_samples_do() -> None:
    real, found = Factored.of(REAL), moments(FAKE)
    effect = influence(FAKE, found, real, roots_of(found, real))
    sizes, weights, n = [20, 35, 60], np.array([-0.5, 0.2, 1.3]), 60
    alone, pairs = np.zeros(n), np.zeros((n, n))
    for size, weight in zip(sizes, weights, strict=True):
        alone[:size] += weight / size
        pairs[:size, :size] += weight / size**2
    linear = n * (effect.variance - 2 * effect.squares / n**2)
    along, three = effect.curvature * linear, effect.curvature * effect.squares
    third = (
        (alone**3).sum() * effect.cubes
        + 6 * alone @ pairs @ alone * along
        + 8 * np.trace(pairs @ pairs @ pairs) * three
    )
    ours = of_prefixes(effect, sizes, weights, 0.1)
    assert ours.variance == 0.1
    assert ours.model == pytest.approx((alone**2).sum() * linear + 2 * (pairs**2).sum() * effect.squares)
    assert ours.third == pytest.approx(third)
    grows = (effect.cubes + 4 * along) / n + 8 * three / n**2
    assert ours.covariance == pytest.approx((alone**2).sum() * grows)
    whole = scatter(effect)
    assert whole.variance == effect.variance == pytest.approx(whole.model)
    assert whole.covariance == pytest.approx(grows / n)


def test_the_curvature_is_that_of_the_distance_along_the_influences() -> None:
    rows, real = FAKE[:, :4], Factored.of(REAL[:, :4])
    found, n = moments(rows), len(rows)
    effect = influence(rows, found, real, roots_of(found, real))
    away = effect.values[-1] - effect.values[-1].mean()

    def distance(tilt: np.ndarray) -> float:
        weights = (1 + tilt) / n
        centre = weights @ rows
        return frechet_distance(
            Moments(centre, (rows - centre).T @ ((rows - centre) * weights[:, None]) * n / (n - 1), n), real
        )

    assert distance(np.zeros(n)) == pytest.approx(frechet_distance(found, real), rel=1e-12)

    def second(tilt: np.ndarray) -> float:
        step = 1e-3 / np.abs(tilt).max()
        return (distance(step * tilt) - 2 * distance(0 * tilt) + distance(-step * tilt)) / (2 * step**2)

    # of the sum over all pairs, that of samples with themselves is left out
    own = sum(away[i] ** 2 * second(n * (np.eye(n)[i] - 1 / n)) for i in range(n)) / n**2
    expected = (second(away) - own) * n / (n - 1) / np.mean(away**2)
    assert effect.curvature == pytest.approx(expected, rel=0.05)


def test_limits_scale_as_the_distance_does() -> None:
    one, two = frechet(FAKE, REAL), frechet(1e3 * FAKE, 1e3 * REAL)
    for each in ("value", "low", "high"):
        assert getattr(two, each) == pytest.approx(1e6 * getattr(one, each), rel=1e-6)


@pytest.mark.parametrize(("shift", "stretch"), [(0.0, 1.0), (0.05, 1.03), (0.1, 1.15)])
def test_it_misses_as_often_on_either_side(shift: float, stretch: float) -> None:
    draw, scale = np.random.default_rng(5), np.arange(1, 17.0) ** -0.5
    reference = Factored(Moments(np.zeros(16), np.diag(scale**2), 10**6))
    found = [frechet((draw.normal(size=(400, 16)) * stretch + shift) * scale, reference) for _ in range(400)]
    low, high = np.array(list(map(_as_derived, found))).T
    truth = np.mean([each.value for each in found if each.value is not None])
    # 400 draws of a side that is missed by 2.5 %: above 5 %, or below 0.6 %, once in 300
    assert 0.005 < np.mean(low > truth) < 0.05
    assert 0.005 < np.mean(high < truth) < 0.05
