"""Attention, its cache and the grid positions, against formulas written out here."""

from __future__ import annotations

import math

import pytest
import torch

from arbench.adapters.layers.attention import KVCache, attend
from arbench.adapters.layers.linear import Linear
from arbench.adapters.layers.rope import grid_rotations, rotate_pairs

GENERATOR = 7


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(GENERATOR))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attend_is_a_softmax_over_keys(kv_heads: int) -> None:
    query, key, value = normal(3, 4, 5, 8), normal(3, kv_heads, 6, 8) * 2, normal(3, kv_heads, 6, 8) + 1
    mask = torch.ones(5, 6, dtype=torch.bool).tril(1)
    got = attend(query, key, value, mask=mask, scale=0.3)
    expected = torch.empty(3, 5, 4, 8)
    for head in range(4):
        group = head // (4 // kv_heads)
        scores = (query[:, head] @ key[:, group].mT * 0.3).masked_fill(~mask, -math.inf)
        expected[:, :, head] = scores.softmax(-1) @ value[:, group]
    torch.testing.assert_close(got, expected.flatten(2), rtol=1e-5, atol=1e-6)


def test_causal_attention_sees_no_later_key() -> None:
    query, key, value = normal(2, 2, 6, 4), normal(2, 2, 6, 4), normal(2, 2, 6, 4)
    whole = attend(query, key, value, causal=True)
    for end in range(1, 7):
        part = attend(query[:, :, end - 1 : end], key[:, :, :end], value[:, :, :end])
        torch.testing.assert_close(whole[:, end - 1 : end], part, rtol=1e-5, atol=1e-6)


def test_cache_returns_what_was_stored_for_fewer_rows_than_it_has() -> None:
    cache = KVCache(5, 2, 7, 4, torch.float32, "cpu")
    key, value = normal(3, 2, 7, 4), normal(3, 2, 7, 4) + 3
    for start, end in ((0, 4), (4, 5), (5, 7)):
        keys, values = cache.extend(key[:, :, start:end], value[:, :, start:end], start)
        assert torch.equal(keys, key[:, :, :end])
        assert torch.equal(values, value[:, :, :end])
    assert cache.rows == 5


def test_rotation_is_a_complex_product_with_row_and_column_angles() -> None:
    side, width, base = 3, 16, 100.0
    x = normal(2, 4, side * side, width)
    got = torch.view_as_complex(rotate_pairs(x, grid_rotations(side, width, base=base)).unflatten(-1, (-1, 2)))
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    for position in range(side * side):
        row, column = divmod(position, side)
        for pair in range(width // 2):
            place, index = (row, pair) if pair < width // 4 else (column, pair - width // 4)
            turn = complex(math.cos(angle := place * base ** (-2 * index / (width // 2))), math.sin(angle))
            torch.testing.assert_close(got[..., position, pair], pairs[..., position, pair] * turn)


def test_rotation_silences_condition_tokens() -> None:
    rotations = grid_rotations(2, 8, condition=3)
    turned = rotate_pairs(normal(1, 1, 7, 8), rotations)
    assert rotations.shape == (7, 4, 2)
    assert torch.count_nonzero(turned[:, :, :3]) == 0
    assert torch.count_nonzero(turned[:, :, 3:]) == 32


@pytest.mark.parametrize(("inputs", "outputs"), [(128, 384), (352, 128), (128, 256)])
def test_linear_gives_a_row_the_same_result_in_any_batch(inputs: int, outputs: int) -> None:
    layer = Linear(inputs, outputs).requires_grad_(False)
    x = normal(64, 1, inputs)
    whole = layer(x)
    torch.testing.assert_close(whole, torch.nn.functional.linear(x, layer.weight, layer.bias))
    for rows in (1, 2, 7, 14, 15, 16, 33):
        assert torch.equal(layer(x[:rows]), whole[:rows])
