"""The plain decoder block of minGPT, which RQ-Transformer and taming's GPT are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import KVCache, attend
from .checkpoint import replace_patterns
from .linear import Linear, filled_up


class Block(nn.Module):
    """Causal attention and an MLP four times as wide, each after a norm. `quick`: GELU by a logistic function."""

    def __init__(
        self, width: int, heads: int, *, attention_bias: bool = True, mlp_bias: bool = True, quick: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.quick = heads, quick
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = Linear(width, 3 * width, bias=attention_bias)
        self.out = Linear(width, width, bias=attention_bias)
        self.mlp_in = Linear(width, 4 * width, bias=mlp_bias)
        self.mlp_out = Linear(4 * width, width, bias=mlp_bias)

    def forward(self, x: Tensor, start: int = 0, cache: KVCache | None = None, rows: int | None = None) -> Tensor:
        """`x` (B, n, C) are the positions from `start` on; with more than one, `start` is 0.

        With `rows` those behind the first so many sequences are only there to fill up (`filled_up`).
        """
        query, key, value = self.qkv(self.norm1(x))[:rows].unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            key, value = cache.extend(key, value, start)
        x = x + self.out(filled_up(attend(query, key, value, causal=x.shape[1] > 1), len(x)))
        hidden = self.mlp_in(self.norm2(x))
        hidden = hidden * torch.sigmoid(1.702 * hidden) if self.quick else F.gelu(hidden)
        out: Tensor = x + self.mlp_out(hidden)
        return out


_TO_OFFICIAL = (
    (r"\.norm([12])\.", r".ln\1."),
    (r"\.out\.", ".attn.proj."),
    (r"\.mlp_in\.", ".mlp.0."),
    (r"\.mlp_out\.", ".mlp.2."),
)


def block_names(ours: str) -> tuple[str, ...]:
    """The official keys of a parameter of a block, whatever stands before it."""
    name = replace_patterns(ours, _TO_OFFICIAL)
    return (
        tuple(name.replace(".qkv.", f".attn.{part}.") for part in ("query", "key", "value"))
        if (".qkv." in name)
        else (name,)
    )
