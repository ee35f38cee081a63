"""Codebook use on codes whose entropy is known, and its intervals by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy

from arbench.errors import InputError
from arbench.metrics.codes import bits_per_image, code_use, code_use_by_level


def test_uniform_codes() -> None:
    ids = np.arange(64).reshape(8, 8)
    use = code_use(ids, 64)
    assert (use.usage.value, use.entropy.value, use.perplexity.value, use.dead) == (1.0, 6.0, 64.0, 0)
    assert (use.images, use.tokens) == (8, 64)
    assert "few_tokens" in use.usage.flags
    half = code_use(ids % 32, 64)
    assert (half.usage.value, half.entropy.value, half.perplexity.value, half.dead) == (0.5, 5.0, 32.0, 32)


def test_entropy_is_scipys() -> None:
    ids = np.random.default_rng(0).geometric(0.1, (50, 40)) - 1
    use = code_use(ids, 1000)
    assert use.entropy.value == pytest.approx(entropy(np.bincount(ids.ravel()), base=2), rel=1e-12)
    assert use.dead == 1000 - len(np.unique(ids))


def test_entropy_as_1d_tokenizer_counts_it() -> None:
    """From the dense histogram of all codes, as its evaluator adds them up; rare codes show the 1e-8."""
    ids = np.random.default_rng(0).geometric(0.0005, (300, 40)) % 4096
    p = np.bincount(ids.ravel(), minlength=4096) / ids.size
    use = code_use(ids, 4096)
    assert use.entropy_inside == pytest.approx(float((-np.log2(p + 1e-8) * p).sum()), rel=1e-12)
    assert use.entropy.value is not None
    assert 1e-6 < use.entropy.value - (use.entropy_inside or 0) < 1e-3
    assert code_use(np.zeros((0, 4), int), 16).entropy_inside is None


def test_one_code_everywhere() -> None:
    use = code_use(np.zeros((4, 7), dtype=np.int64), 16)
    assert (use.entropy.value, use.perplexity.value, use.dead) == (0.0, 1.0, 15)


def test_a_vocabulary_of_two_to_the_63_needs_no_table() -> None:
    use = code_use(np.array([[0, 2**62], [5, 2**63 - 1]]), 2**63)
    assert use.entropy.value == 2.0
    assert use.dead == 2**63 - 4


def test_intervals_take_images_as_independent_and_their_tokens_as_not() -> None:
    draw, weights = np.random.default_rng(3), np.array([0.5, 0.25, 0.15, 0.1])
    estimates = []
    for _ in range(300):
        # all 16 tokens of an image are the same code: the worst dependence
        ids = np.repeat(draw.choice(4, size=(200, 1), p=weights), 16, axis=1)
        estimates.append(code_use(ids, 4).entropy)
    values = np.array([estimate.value for estimate in estimates])
    covered = np.mean([e.low <= values.mean() <= e.high for e in estimates])  # type: ignore[operator]
    assert 0.90 < covered < 0.99


def test_bits_per_image_sums_the_levels() -> None:
    draw = np.random.default_rng(0)
    levels = [draw.integers(0, 4, (30, 1)), draw.integers(0, 16, (30, 9))]
    use = code_use_by_level(levels, 16)
    assert [entry.level for entry in use] == [0, 1]
    bits = bits_per_image(levels, 16)
    assert use[0].entropy.value is not None
    assert use[1].entropy.value is not None
    assert bits.value == pytest.approx(use[0].entropy.value + 9 * use[1].entropy.value)
    assert bits.n == 30
    assert bits.low < bits.value < bits.high  # type: ignore[operator]


def test_no_tokens_give_no_value() -> None:
    use = code_use(np.zeros((0, 16), dtype=np.int64), 8)
    assert use.usage.value is None
    assert use.entropy.reason == "no tokens"
    assert bits_per_image([], 8).reason == "no tokens"


def test_one_image_has_no_interval() -> None:
    use = code_use(np.array([[0, 1]]), 2)
    assert use.entropy.low is None
    assert "no_interval" in use.entropy.flags


def test_ids_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match=r"outside of 0\.\.7"):
        code_use(np.array([[0, 8]]), 8)
    with pytest.raises(InputError, match="outside"):
        code_use(np.array([[-1, 0]]), 8)
    with pytest.raises(InputError, match="integers"):
        code_use(np.array([[0.5]]), 8)
