"""Moments by torch's sums, as a GPU takes them, against BLAS's: the same to rounding, on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arbench.errors import InputError
from arbench.evaluate.inputs import Inputs
from arbench.metrics.sets import device_moments
from arbench.metrics.sets.device_moments import moments_on, summed
from arbench.metrics.sets.moments import moments

pytestmark = pytest.mark.numerical


@pytest.mark.parametrize("n", [2, 7, 2500, 2501, 6000])
def test_they_are_those_of_the_host(n: int) -> None:
    rows = (1000 + np.random.default_rng(n).standard_gamma(0.5, (n, 40))).astype(np.float32)
    found, expected = summed(rows, torch.device("cpu")), moments(rows)
    assert found.n == expected.n == n
    assert found.ddof == expected.ddof
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-14)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(found.covariance, found.covariance.T)


def test_on_a_cpu_they_are_the_hosts_to_the_bit() -> None:
    rows = np.random.default_rng(0).standard_normal((300, 20), np.float32)
    np.testing.assert_array_equal(moments_on(rows, "cpu").covariance, moments(rows).covariance)


def test_the_samples_moments_are_summed_on_the_device_of_the_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(device_moments, "summed", lambda rows, device: asked.append(device))
    inputs = Inputs({}, None, {}, device="cuda:1")
    monkeypatch.setattr(Inputs, "rows", lambda self, output: np.zeros((3, 2), np.float32))
    inputs.moments("means:mean")
    assert asked == [torch.device("cuda:1")]


def test_what_is_not_finite_shows_and_one_row_is_refused() -> None:
    rows = np.ones((5, 3), np.float32)
    rows[2, 1] = np.inf
    assert not summed(rows, torch.device("cpu")).finite
    with pytest.raises(InputError, match="at least two"):
        summed(rows[:1], torch.device("cpu"))
