"""Roots by the tools' own routes: the symmetric one where there are enough images, and theirs where there are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_fidelity.metric_fid

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
