"""A pre-norm transformer block as in vision transformers, whole, masked or with a cache: MAR's, LPD's, DetailFlow's."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import KVCache, attend, projected
from .linear import Linear, filled_up
from .masked import gathered


class Block(nn.Module):
    """Attention, then an MLP with GELU, each behind a LayerNorm. Without a mask all tokens see one another.

    `hidden` is the width inside the MLP, where no ratio gives it; `gelu` says how GELU is computed.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        eps: float,
        *,
        hidden: int | None = None,
        gelu: Literal["none", "tanh"] = "none",
    ) -> None:
        super().__init__()
        self.heads, self.gelu = heads, gelu
        hidden = hidden or int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp_in = Linear(width, hidden)
        self.mlp_out = Linear(hidden, width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        start: int = 0,
        cache: KVCache | None = None,
        wanted: Tensor | slice | None = None,
        rows: int | None = None,
    ) -> Tensor:
        """`x` (B, n, W) are the tokens from position `start` on; earlier ones are in the cache, if there is one.

        With `wanted`, (B, m) or a slice, the others are only seen: the result is of these alone, and the mask is for
        them. With `rows` those behind the first so many sequences are only there to fill up (`filled_up`).
        """
        query, key, value = (
            part[:rows].unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in projected(self.qkv, self.norm1(x), wanted)
        )
        x = gathered(x, wanted)
        if cache is not None:
            key, value = cache.extend(key, value, start)
        x = x + self.out(filled_up(attend(query, key, value, mask=mask), len(x)))
        out: Tensor = x + self.mlp_out(F.gelu(self.mlp_in(self.norm2(x)), approximate=self.gelu))
        return out
