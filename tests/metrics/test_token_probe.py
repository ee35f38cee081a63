"""The probe on streams of known entropy."""

from __future__ import annotations

import numpy as np
import pytest

from arbench.metrics.token_probe import as_digits, bits_of_tokens

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("vocabulary", [16, 512])
def test_a_uniform_stream_costs_log2_of_the_codes(vocabulary: int) -> None:
    """And no more than a little, however long it is trained: the best step for other images is kept."""
    ids = DRAW.integers(0, vocabulary, (100, 4))
    bits = bits_of_tokens(ids, vocabulary, 10, seed=0)
    assert bits.shape == (20, 4)
    assert bits.mean() == pytest.approx(np.log2(vocabulary), abs=0.1)


def test_a_stream_that_is_always_the_same_costs_nothing() -> None:
    ids = np.tile(DRAW.integers(0, 300, 2), (50, 1))
    assert bits_of_tokens(ids, 300, 120, seed=0).mean() < 0.05


def test_a_stream_that_repeats_its_start_costs_its_start() -> None:
    ids = np.repeat(DRAW.integers(0, 8, (200, 1)), 4, axis=1)
    bits = bits_of_tokens(ids, 8, 80, seed=0).mean(0)
    assert bits[0] == pytest.approx(3, abs=0.15)
    assert bits[1:].max() < 0.1


def test_rows_that_end_early_cost_their_own_tokens() -> None:
    """Of 1 to 5 tokens that repeat the first one: what lies behind the end is neither learnt nor counted."""
    lengths = DRAW.integers(1, 6, 200)
    ids = np.repeat(DRAW.integers(0, 8, (200, 1)), 5, axis=1)
    ids[np.arange(5) >= lengths[:, None]] = -1
    bits = bits_of_tokens(ids, 8, 70, seed=0)
    np.testing.assert_array_equal(np.isnan(bits), ids[-40:] == -1)
    mean = np.nanmean(bits, axis=0)
    assert mean[0] == pytest.approx(3, abs=0.3)
    assert mean[1:].max() < 0.2
    digits, _ = as_digits(ids[:, 3:], 512)
    np.testing.assert_array_equal(digits.reshape(200, 2, 2) < 0, np.repeat(ids[:, 3:, None] == -1, 2, axis=2))


def test_equal_seeds_give_equal_bits() -> None:
    ids = np.sort(DRAW.integers(0, 4, (20, 3)), axis=1)
    one, two, other = (bits_of_tokens(ids, 4, 20, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


@pytest.mark.parametrize(
    ("vocabulary", "values"),
    [
        (1, [2]),
        (16, [16]),
        (256, [256]),
        (512, [32, 16]),
        (1000, [40, 25]),
        (1009, [101, 10]),
        (2**18, [64, 64, 64]),
        (2**31, [128, 256, 256, 256]),
    ],
)
def test_digits_give_ids_back(vocabulary: int, values: list[int]) -> None:
    """And as many values as there are ids, wherever that can be: what is uniform over digits is so over ids."""
    ids = DRAW.integers(0, vocabulary, (3, 5))
    digits, found = as_digits(ids, vocabulary)
    assert found == values
    assert np.prod(found) >= vocabulary
    assert (digits.reshape(15, -1) < found).all()
    back = np.zeros((3, 5), np.int64)
    for column, count in zip(digits.reshape(3, 5, -1).transpose(2, 0, 1), found, strict=True):
        back = back * count + column
    np.testing.assert_array_equal(back, ids)
