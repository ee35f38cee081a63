"""The probe on streams of known entropy."""

from __future__ import annotations

import numpy as np
import pytest

from arbench.metrics.token_probe import as_digits, bits_of_tokens

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("vocabulary", [16, 1000])
def test_a_uniform_stream_costs_log2_of_the_codes(vocabulary: int) -> None:
    """And no more than a little, however long it is trained: the best step for other images is kept."""
    ids = DRAW.integers(0, vocabulary, (200, 4))
    bits = bits_of_tokens(ids, vocabulary, 20, seed=0)
    assert bits.shape == (40, 4)
    assert bits.mean() == pytest.approx(np.log2(vocabulary), abs=0.1)


def test_a_stream_that_is_always_the_same_costs_nothing() -> None:
    ids = np.tile(DRAW.integers(0, 300, 2), (50, 1))
    assert bits_of_tokens(ids, 300, 120, seed=0).mean() < 0.05


def test_a_stream_that_repeats_its_start_costs_its_start() -> None:
    ids = np.repeat(DRAW.integers(0, 8, (200, 1)), 4, axis=1)
    bits = bits_of_tokens(ids, 8, 80, seed=0).mean(0)
    assert bits[0] == pytest.approx(3, abs=0.15)
    assert bits[1:].max() < 0.1


def test_equal_seeds_give_equal_bits() -> None:
    ids = np.sort(DRAW.integers(0, 4, (20, 6)), axis=1)
    one, two, other = (bits_of_tokens(ids, 4, 20, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


@pytest.mark.parametrize(
    ("vocabulary", "count", "base"), [(16, 1, 16), (256, 1, 256), (1024, 2, 32), (2**18, 3, 64), (1, 1, 2)]
)
def test_digits_give_ids_back(vocabulary: int, count: int, base: int) -> None:
    ids = DRAW.integers(0, vocabulary, (3, 5))
    digits, found = as_digits(ids, vocabulary)
    assert found == base
    assert digits.shape == (3, 5 * count)
    back = (digits.reshape(3, 5, count) * base ** np.arange(count)[::-1]).sum(2)
    np.testing.assert_array_equal(back, ids)
