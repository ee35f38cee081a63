"""Moments in blocks: NumPy's, whatever the blocks, the shards and their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from arbench.errors import InputError
from arbench.metrics.sets.frechet import frechet_distance
from arbench.metrics.sets.moments import Accumulator, Factored, Moments, merged, moments

pytestmark = pytest.mark.numerical

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (2000, 64)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (1500, 64)).astype(np.float32)


def test_moments_are_numpys() -> None:
    found, exact = moments(FAKE), FAKE.astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(exact, rowvar=False), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(moments(FAKE, ddof=0).covariance, np.cov(exact, rowvar=False, ddof=0), atol=1e-13)
    assert (found.n, found.ddof) == (1500, 1)


def test_a_float32_mean_is_numpys_to_the_bit_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arbench.metrics.sets.moments.BLOCK", 333)
    np.testing.assert_array_equal(moments(FAKE, float32_mean=True).mean, FAKE.mean(0))


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    far = FAKE.astype(np.float64) + 1e6
    np.testing.assert_allclose(moments(far).covariance, np.cov(FAKE.astype(np.float64), rowvar=False), atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(shards=st.sampled_from([1, 3, 8]), seed=st.integers(0, 2**31), size=st.integers(1, 400))
def test_shards_in_any_order_merge_to_the_same_distance(shards: int, seed: int, size: int) -> None:
    draw = np.random.default_rng(seed)
    whole = moments(FAKE)
    cuts = np.sort(draw.choice(np.arange(1, len(FAKE)), shards - 1, replace=False))
    parts = []
    for rows in np.split(draw.permutation(FAKE), cuts):
        part = Accumulator(64)
        for start in range(0, len(rows), size):
            part.add(rows[start : start + size])
        parts.append(part)
    found = merged(parts[i] for i in draw.permutation(shards)).moments()
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-11)
    np.testing.assert_allclose(found.covariance, whole.covariance, rtol=1e-9, atol=1e-12)
    real = Factored.of(REAL)
    assert frechet_distance(found, real) == pytest.approx(frechet_distance(whole, real), rel=1e-9)


def test_merging_leaves_the_parts_as_they_are() -> None:
    one, two = Accumulator.of(FAKE[:10]), Accumulator.of(FAKE[10:30])
    merged([one, two])
    one.merge(Accumulator(64))  # an empty one changes nothing
    assert (one.n, two.n) == (10, 20)
    np.testing.assert_allclose(one.mean, FAKE[:10].astype(np.float64).mean(0))


@pytest.mark.parametrize("n", [2000, 65, 64, 30])
def test_the_factor_of_a_reference_gives_its_covariance_back(n: int) -> None:
    reference = Factored.of(REAL[:n])
    root = reference.factor
    np.testing.assert_allclose(root @ root.T, np.cov(REAL[:n].astype(np.float64), rowvar=False), atol=1e-12)
    # from the moments alone, as out of a file of statistics
    bare = Factored(reference.moments).factor
    np.testing.assert_allclose(bare @ bare.T, reference.moments.covariance, atol=1e-7 if n <= 64 else 1e-12)


def test_a_known_factor_is_used() -> None:
    root: NDArray[np.float64] = np.diag([1.0, 2.0])
    assert Factored(Moments(np.zeros(2), root @ root.T, 100), root).factor is root


def test_sets_that_have_no_covariance_are_refused() -> None:
    with pytest.raises(InputError, match="two vectors"):
        moments(FAKE[:1])
    with pytest.raises(InputError, match="one vector per image"):
        moments(FAKE[:, 0])
    with pytest.raises(InputError, match="length 64"):
        Accumulator(64).add(FAKE[:, :3])
    with pytest.raises(InputError, match="nothing to merge"):
        merged([])
