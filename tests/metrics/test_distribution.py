"""Precision and recall against torch-fidelity, published vectors and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_fidelity.metric_prc
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from arbench.errors import InputError
from arbench.metrics.distribution import precision_recall
from arbench.metrics.moments import MINIMUM

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (2000, 64)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (1500, 64)).astype(np.float32)
"""The recipe of the published vectors below."""


def test_precision_and_recall_are_the_published_values_and_torch_fidelitys() -> None:
    ours = precision_recall(FAKE, REAL, k=3)
    assert ours.precision.value == pytest.approx(0.54, abs=1e-12)
    assert ours.recall.value == pytest.approx(0.7435, abs=1e-12)
    theirs = torch_fidelity.metric_prc.prc_features_to_metric(
        torch.from_numpy(FAKE), torch.from_numpy(REAL), prc_neighborhood=3, prc_batch_size=10000, verbose=False
    )
    assert ours.precision.value == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours.recall.value == pytest.approx(theirs["recall"], abs=1e-6)
    assert ours.precision.n == 1500
    assert ours.recall.n == 2000
    assert "balls fixed" in ours.precision.method


@pytest.mark.parametrize("k", [1, 5])
def test_precision_and_recall_by_brute_force(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arbench.metrics.distribution.CHUNK", 37)
    x, y = FAKE[:120, :6].astype(np.float64), REAL[:90, :6].astype(np.float64)

    def radii(points: NDArray[np.float64]) -> NDArray[np.float64]:
        distances = cdist(points, points)
        np.fill_diagonal(distances, np.inf)
        return np.sort(distances, axis=1)[:, k - 1]

    between = cdist(x, y)
    ours = precision_recall(x, y, k)
    # a point exactly on an edge in float64 may fall off it in float32: allow for one
    assert ours.precision.value == pytest.approx((between <= radii(y)).any(1).mean(), abs=1.01 / 120)
    assert ours.recall.value == pytest.approx((between <= radii(x)[:, None]).any(0).mean(), abs=1.01 / 90)


def test_a_set_covers_itself() -> None:
    ours = precision_recall(FAKE[:100], FAKE[:100])
    assert (ours.precision.value, ours.recall.value) == (1.0, 1.0)


def test_too_few_or_broken_features_give_no_value_and_the_reason() -> None:
    few = precision_recall(FAKE[: MINIMUM - 1], REAL).precision
    assert few.value is None
    assert few.reason == f"{MINIMUM - 1} samples, at least {MINIMUM} are needed"
    assert "reference images" in precision_recall(FAKE, REAL[:3]).recall.reason
    broken = FAKE[:50].copy()
    broken[3, 3] = np.nan
    assert precision_recall(broken, REAL[:50]).precision.reason == "features of the samples are not finite"
    with pytest.raises(InputError, match="different length"):
        precision_recall(FAKE[:, :60], REAL)
