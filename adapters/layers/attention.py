"""Attention over heads, and the key-value cache that autoregressive sampling allocates once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .linear import linear
from .masked import gathered


class KVCache:
    """Keys and values of one layer, allocated once for `rows` sequences of at most `length` tokens.

    Fewer rows may be used at any time: those of the batch at hand come first.
    """

    def __init__(
        self, rows: int, heads: int, length: int, width: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self.key = torch.zeros(rows, heads, length, width, dtype=dtype, device=device)
        self.value = torch.zeros_like(self.key)

    @property
    def rows(self) -> int:
        return self.key.shape[0]

    def extend(self, key: Tensor, value: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Store (B, H, n, D) keys and values at positions `start`...; return views of all up to there."""
        rows, end = key.shape[0], start + key.shape[2]
        self.key[:rows, :, start:end] = key
        self.value[:rows, :, start:end] = value
        return self.key[:rows, :, :end], self.value[:rows, :, :end]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """(B, L, H * D): softmax attention of (B, H, L, D) queries over (B, H_kv, S, D) keys and values.

    `mask` is boolean, True where a query may look, broadcast to (B, H, L, S). With fewer key heads than query heads,
    each serves H / H_kv neighbouring query heads. `scale` defaults to D^-0.5.
    """
    grouped = _settled(query.shape[1] != key.shape[1])
    mixed = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=_settled(causal), scale=scale, enable_gqa=grouped
    )
    return mixed.transpose(1, 2).flatten(2)


def _settled(condition: bool) -> bool:
    """The same as a plain bool: while a call is compiled it may be a symbol, of which a branch makes a condition."""
    return True if condition else False  # noqa: SIM210


def projected(layer: nn.Linear, x: Tensor, wanted: Tensor | slice | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (B, n, W) each, of `x` (B, L, W) by one layer that makes all three.

    `wanted`, (B, n) or a slice, are the rows that anybody asks for behind this attention; the others ask nothing.
    """
    if wanted is None:
        query, key, value = layer(x).chunk(3, dim=-1)
        return query, key, value
    width = layer.weight.shape[0] // 3
    weights, biases = (None if each is None else each.split([width, 2 * width]) for each in (layer.weight, layer.bias))
    assert weights is not None
    first, rest = biases or (None, None)
    query = linear(gathered(x, wanted), weights[0], first)
    key, value = linear(x, weights[1], rest).chunk(2, dim=-1)
    return query, key, value
