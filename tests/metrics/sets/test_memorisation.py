"""MIFID against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.image.mifid import _compute_cosine_distance, _mifid_compute

from arbench.metrics.sets.frechet import frechet
from arbench.metrics.sets.memorisation import mean_nearest_cosine, mifid

pytestmark = pytest.mark.numerical

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (600, 32)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (500, 32)).astype(np.float32)
COPIES = (REAL[:400] + 0.05 * _DRAW.normal(size=(400, 32))).astype(np.float32)


def _theirs(samples: NDArray[np.float32], epsilon: float) -> float:
    real, fake = torch.from_numpy(REAL).double(), torch.from_numpy(samples).double()
    statistics = [(rows.mean(0), torch.cov(rows.T), rows) for rows in (real, fake)]
    return float(_mifid_compute(*statistics[0], *statistics[1], cosine_distance_eps=epsilon))


@pytest.mark.parametrize("samples", [FAKE, COPIES], ids=["new", "copies"])
@pytest.mark.parametrize("epsilon", [0.1, 0.9])
def test_it_equals_torchmetrics(samples: NDArray[np.float32], epsilon: float) -> None:
    # its root is that of eigenvalues of a matrix that is not symmetric; cosines here are float32
    ours = mifid(frechet(samples, REAL), samples, REAL, epsilon=epsilon)
    assert ours.value == pytest.approx(_theirs(samples, epsilon), rel=1e-5)


def test_copies_are_penalised_and_new_samples_are_not() -> None:
    plain, new = frechet(FAKE, REAL), mifid(frechet(FAKE, REAL), FAKE, REAL)
    assert (new.value, new.low, new.flags) == (plain.value, plain.low, plain.flags)
    plain, copied = frechet(COPIES, REAL), mifid(frechet(COPIES, REAL), COPIES, REAL)
    assert copied.value > 10 * plain.value  # type: ignore[operator]
    assert "memorisation" in copied.flags


def test_the_distance_to_the_nearest_leaves_out_rows_that_sum_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arbench.metrics.sets.memorisation.BLOCK", 37)
    samples, reference = FAKE.copy(), REAL.copy()
    samples[5], reference[:40] = 0, 0
    theirs = float(_compute_cosine_distance(torch.from_numpy(reference), torch.from_numpy(samples), 9.0))
    assert mean_nearest_cosine(samples, reference) == pytest.approx(theirs, rel=1e-5)


def test_a_missing_distance_stays_missing() -> None:
    few = frechet(FAKE[:3], REAL)
    assert mifid(few, FAKE[:3], REAL) is few
    zero = np.zeros_like(REAL)
    assert "all zero" in mifid(frechet(FAKE, REAL), FAKE, zero).reason
