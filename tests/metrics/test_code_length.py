"""Adaptive code lengths against a coder that goes from token to token, and the use of a codebook by images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbench.metrics.code_length import adaptive_bits, saturation


def token_by_token(ids: np.ndarray, vocabulary: int, order: int) -> float:
    bits, counts = 0.0, {}
    for row in ids.tolist():
        for place, token in enumerate(row):
            seen = counts.setdefault(tuple(row[max(0, place - order) : place]), [0] * vocabulary)
            bits -= math.log2((seen[token] + 0.5) / (sum(seen) + vocabulary / 2))
            seen[token] += 1
    return bits


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 7), st.integers(2, 6), st.sampled_from((0, 1, 2)))
def test_closed_form_is_the_coder(seed: int, n: int, tokens: int, vocabulary: int, order: int) -> None:
    draw = np.random.default_rng(seed)
    levels = [draw.integers(0, vocabulary, (n, tokens)), draw.integers(0, vocabulary, (n, 2))]
    expected = sum(token_by_token(ids, vocabulary, order) for ids in levels)
    assert adaptive_bits(levels, vocabulary, order) == pytest.approx(expected, rel=1e-10)


def test_a_chain_carries_little_given_what_goes_before() -> None:
    ids = (np.arange(400 * 16).reshape(400, 16) + np.arange(400)[:, None]) % 64
    zero, one = (adaptive_bits([ids], 64, order) / ids.size for order in (0, 1))
    assert zero == pytest.approx(6, abs=0.1)
    assert one < 0.25 * zero  # the rest is what learning 64 x 64 counts takes


def test_saturation_by_hand() -> None:
    ids = np.array([[0, 0], [0, 1], [1, 1], [2, 0], [3, 3]])
    assert saturation(ids, 8) == [(1, 1 / 8), (2, 2 / 8), (4, 3 / 8), (5, 4 / 8)]
