"""A pre-norm transformer block as in vision transformers, whole, masked or with a cache: MAR's, LPD's, DetailFlow's."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import KVCache, attend
from .linear import Linear


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

    def forward(self, x: Tensor, mask: Tensor | None = None, start: int = 0, cache: KVCache | None = None) -> Tensor:
        """`x` (B, n, W) are the tokens from position `start` on; earlier ones are in the cache, if there is one."""
        query, key, value = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            key, value = cache.extend(key, value, start)
        x = x + self.out(attend(query, key, value, mask=mask))
        out: Tensor = x + self.mlp_out(F.gelu(self.mlp_in(self.norm2(x)), approximate=self.gelu))
        return out
