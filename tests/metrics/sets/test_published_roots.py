"""Roots by the tools' own routes: the symmetric one where there are enough images, and theirs where there are not."""

from __future__ import annotations

import cleanfid.fid
import numpy as np
import pytest
import scipy.linalg
import torch
import torch_fidelity.metric_fid
from numpy.typing import NDArray

from arbench.metrics.sets.frechet import frechet_distance
from arbench.metrics.sets.moments import moments
from arbench.metrics.sets.published_roots import frechet_distance_by

pytestmark = pytest.mark.numerical

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (2000, 64)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (1500, 64)).astype(np.float32)
STEEP = (np.arange(1, 65) ** -2.0).astype(np.float32)
"""Deviations whose squares fall by 2e7: roots far below the rounding noise of the largest must not be dropped."""


@pytest.mark.parametrize("scale", [np.ones(64, np.float32), STEEP])
@pytest.mark.parametrize(("n", "m"), [(66, 66), (66, 2000), (100, 70), (1500, 2000)])
@pytest.mark.parametrize("route", ["eigvals", "sqrtm"])
def test_with_more_images_than_dimensions_the_symmetric_route_gives_the_tools_digits(route, n, m, scale) -> None:
    one, two = moments(FAKE[:n] * scale), moments(REAL[:m] * scale)
    assert frechet_distance(one, two) == pytest.approx(frechet_distance_by(route, one, two), rel=1e-6)


def test_with_fewer_the_eigenvalue_route_is_torch_fidelitys() -> None:
    one, two = moments(FAKE[:30], float32_mean=True), moments(REAL[:40], float32_mean=True)
    sides = [torch_fidelity.metric_fid.fid_features_to_statistics(torch.from_numpy(r)) for r in (FAKE[:30], REAL[:40])]
    theirs = torch_fidelity.metric_fid.fid_statistics_to_metric(*sides, False)["frechet_inception_distance"]
    assert frechet_distance_by("eigvals", one, two) == pytest.approx(theirs, rel=1e-6)


def test_with_fewer_the_scipy_route_is_clean_fids() -> None:
    one, two = moments(FAKE[:30]), moments(REAL[:40])
    theirs = cleanfid.fid.frechet_distance(one.mean, one.covariance, two.mean, two.covariance)
    # roots of rounding noise, 1e-8 of the largest eigenvalue each, differ with the build of LAPACK
    assert frechet_distance_by("sqrtm", one, two) == pytest.approx(theirs, rel=1e-9)
    assert frechet_distance(one, two) != pytest.approx(theirs, rel=1e-9)


def test_the_routes_differ_where_the_root_is_not_finite_or_complex(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = moments(FAKE[:200]), moments(REAL[:200])
    exact, true = frechet_distance(one, two), scipy.linalg.sqrtm
    calls: list[NDArray[np.float64]] = []

    def broken(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        calls.append(matrix)
        return np.full_like(matrix, np.nan) if len(calls) == 1 else true(matrix)

    monkeypatch.setattr(scipy.linalg, "sqrtm", broken)
    assert frechet_distance_by("sqrtm-plain", one, two) is None
    calls.clear()
    # d tr (S1 + e)^(1/2) (S2 + e)^(1/2) is of the order of e x D for spectra of order 1
    assert frechet_distance_by("sqrtm", one, two) == pytest.approx(exact, abs=20 * 64e-6)
    assert len(calls) == 2
    calls.clear()
    diagonals = np.sqrt(np.diag(one.covariance) * np.diag(two.covariance)).sum()
    shift = one.mean - two.mean
    theirs = shift @ shift + np.trace(one.covariance) + np.trace(two.covariance) - 2 * diagonals
    assert frechet_distance_by("sqrtm-diagonal", one, two) == pytest.approx(theirs, rel=1e-12)
    monkeypatch.setattr(scipy.linalg, "sqrtm", lambda matrix: true(matrix) + 0.01j * np.eye(len(matrix)))
    assert frechet_distance_by("sqrtm", one, two) is None
    assert frechet_distance_by("sqrtm-diagonal", one, two) is None
    assert frechet_distance_by("sqrtm-plain", one, two) == pytest.approx(exact, rel=1e-6)
