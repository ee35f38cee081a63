"""Vendi against eigenvalues of the whole matrix; MIND against the published vector and sorted projections."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from arbench.errors import InputError
from arbench.metrics.estimate import Estimate
from arbench.metrics.sets.diversity import mind, vendi, vendi_float32

pytestmark = pytest.mark.numerical

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (2000, 64)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (1500, 64)).astype(np.float32)
"""The recipe of the published vectors below."""


def _error(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return (estimate.high - estimate.low) / 2 / 1.959963984540054


def _vendi(rows: NDArray[np.float64]) -> float:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(unit))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


@pytest.mark.parametrize("n", [400, 65, 64, 20])
def test_vendi_is_the_entropy_of_the_n_by_n_matrix(n: int) -> None:
    found = vendi(FAKE[:n])
    assert found.value == pytest.approx(_vendi(FAKE[:n].astype(np.float64)), rel=1e-9)
    assert ("rank_deficient" in found.flags) == (n <= 64)


def test_vendi_in_float32_is_the_published_value_of_dgm_eval() -> None:
    # their 1500 x 1500 float32 matrix has rank 64: of the other 1436 eigenvalues, rounding noise around 1e-9, the
    # positive half adds 2.4e-5 to the entropy; what LAPACK's build and threads change of it is 4e-6
    assert vendi_float32(FAKE) == pytest.approx(25.383463, rel=5e-6)
    assert vendi(FAKE).value == pytest.approx(25.383463, rel=4e-5)  # without that noise
    assert vendi_float32(FAKE[:60]) == pytest.approx(vendi(FAKE[:60]).value, rel=1e-5)
    assert vendi_float32(np.broadcast_to(FAKE[0], (5001, 64))) is None


@pytest.mark.parametrize(("n", "dimension"), [(60, 8), (12 + 8, 40)])
def test_vendis_error_is_that_of_the_numerical_derivative(n: int, dimension: int) -> None:
    rows = FAKE[:n, :dimension].astype(np.float64) + 0.1
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def score(weights: NDArray[np.float64]) -> float:
        values = np.linalg.eigvalsh((unit * weights[:, None]).T @ unit)
        values = values[values > 1e-12]
        return float(np.exp(-(values * np.log(values)).sum()))

    step, even = 1e-5 / n, np.full(n, 1 / n)
    towards = np.eye(n) - 1 / n
    influence = [(score(even + step * t) - score(even - step * t)) / (2 * step) for t in towards]
    assert _error(vendi(rows)) == pytest.approx(np.std(influence, ddof=1) / np.sqrt(n), rel=1e-3)


def test_vendi_counts_the_different_samples() -> None:
    assert vendi(np.eye(20)).value == pytest.approx(20)
    assert vendi(np.repeat(np.eye(5), 8, axis=0)).value == pytest.approx(5)
    assert vendi(np.ones((30, 4))).value == pytest.approx(1)
    broken = FAKE.copy()
    broken[0] = 0
    assert "a row is zero" in vendi(broken).reason
    assert "at least 16" in vendi(FAKE[:15]).reason


def test_mind_is_the_published_value() -> None:
    # float32 products there, added up in float32; a BLAS decides the last digits
    assert mind(FAKE, REAL).value == pytest.approx(0.9132584631443024, rel=1e-6)


def test_mind_of_equal_sizes_by_sorted_projections() -> None:
    x, y = FAKE[:300].astype(np.float64), REAL[:300].astype(np.float64)
    directions = torch.randn(50, 64, generator=torch.Generator().manual_seed(2020)).double().numpy()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    squares = [np.mean((np.sort(x @ u) - np.sort(y @ u)) ** 2) for u in directions]
    assert mind(x, y, projections=50).value == pytest.approx(3 * 64 * np.mean(squares), rel=1e-5)


def test_minds_interval_covers_the_mean_of_many_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arbench.metrics.sets.diversity.BLOCK", 64)
    draw = np.random.default_rng(1)
    reference = draw.normal(size=(300, 5))
    found = [mind(draw.normal(size=(300, 5)) * 1.3 + 0.5, reference, projections=30) for _ in range(150)]
    values = np.array([each.value for each in found])
    covered = np.mean([e.low <= values.mean() <= e.high for e in found])  # type: ignore[operator]
    assert covered >= 0.88  # 150 draws at 95 %, probability 1e-3
    assert 0.8 < np.mean([_error(each) for each in found]) / values.std() < 1.4


def test_mind_needs_comparable_sets() -> None:
    with pytest.raises(InputError, match="different length"):
        mind(FAKE[:, :60], REAL)
    assert "at least 16" in mind(FAKE[:15], REAL).reason
    broken = FAKE.copy()
    broken[3, 3] = np.nan
    assert "not finite" in mind(broken, REAL).reason
