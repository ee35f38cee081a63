"""FID-infinity: the intercept of the line through distances of prefixes."""

from __future__ import annotations

import numpy as np
import pytest

from arbench.metrics.sets.extrapolation import dgm_smallest, fid_infinity
from arbench.metrics.sets.frechet import frechet_distance
from arbench.metrics.sets.moments import Factored, Moments, moments

pytestmark = pytest.mark.numerical

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (2000, 16)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (1500, 16)).astype(np.float32)


def test_distances_are_those_of_prefixes_of_one_order_and_the_line_is_numpys() -> None:
    found = fid_infinity(FAKE, REAL, points=6, smallest=200, seed=4)
    order = np.random.RandomState(4).permutation(1500)
    reference = moments(REAL)
    expected = [frechet_distance(moments(FAKE[order[:size]]), reference) for size in found.sizes]
    assert (found.sizes[0], found.sizes[-1], len(found.sizes)) == (200, 1500, 6)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-9)
    slope, intercept = np.polyfit(1 / np.array(found.sizes), found.distances, 1)
    assert found.estimate.value == pytest.approx(intercept, rel=1e-8)
    assert found.slope == pytest.approx(slope, rel=1e-8)
    assert fid_infinity(FAKE, REAL, points=6, smallest=200, seed=4) == found
    assert fid_infinity(FAKE, REAL, points=6, smallest=200, seed=5) != found


@pytest.mark.parametrize(("shift", "stretch"), [(0.2, 1.2), (0.0, 1.0)])
def test_the_intercept_is_the_distance_without_bias_and_its_interval_covers_it(shift: float, stretch: float) -> None:
    # where the laws are equal all the variance is of order 1 / N^2; without that term 75 % are covered
    draw = np.random.default_rng(3)
    reference = Factored(Moments(np.zeros(6), np.eye(6), 10**6))
    truth = 6 * shift**2 + 6 * (stretch - 1) ** 2
    rows = (draw.normal(size=(1000, 6)) * stretch + shift for _ in range(100))
    found = [fid_infinity(each, reference, smallest=300) for each in rows]
    values = np.array([each.estimate.value for each in found])
    assert values.mean() == pytest.approx(truth, abs=4 * values.std() / 10)
    covered = np.mean([each.estimate.low <= truth <= each.estimate.high for each in found])  # type: ignore[operator]
    assert covered >= 0.87  # 100 draws at 95 %: less than one in a thousand


def test_dgm_evals_schedule() -> None:
    assert [dgm_smallest(n) for n in (15, 1500, 50_000, 10**6)] == [2, 150, 5000, 5000]
    assert fid_infinity(FAKE, REAL, smallest=None).sizes[0] == 150


def test_too_few_samples_give_no_value_and_the_reason() -> None:
    found = fid_infinity(FAKE, REAL)
    assert found.estimate.reason == "1500 samples, at least 10000 are needed to extrapolate from 5000"
    assert found.sizes == ()
    broken = FAKE.copy()
    broken[3, 3] = np.nan
    assert "not finite" in fid_infinity(broken, REAL, smallest=200).estimate.reason
