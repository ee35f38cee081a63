"""The self-attention of next-scale transformers: VAR's, and with rotary positions HART's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import KVCache, attend
from .linear import Linear, linear
from .rope import rotate_halves

LARGEST_LOG_SCALE = math.log(100)


class ScaleAttention(nn.Module):
    """Self-attention, with unit queries and keys and a learned temperature per head if `unit`."""

    def __init__(self, width: int, heads: int, *, unit: bool) -> None:
        super().__init__()
        self.heads = heads
        self.unit = unit
        self.qkv = Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.out = Linear(width, width)
        if self.unit:
            self.log_scale = nn.Parameter(torch.full((1, self.heads, 1, 1), math.log(4)))
        # without the learned scale upstream divides by 4 sqrt(d), not by sqrt(d)
        self.scale = 1.0 if self.unit else 0.25 / math.sqrt(width // self.heads)

    def forward(
        self, x: Tensor, start: int, cache: KVCache | None, mask: Tensor | None, rotations: Tensor | None = None
    ) -> Tensor:
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))  # keys have none
        heads = linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, H, n, D)
        if self.unit:
            scale = self.log_scale.float().clamp(max=LARGEST_LOG_SCALE).exp()
            query = (F.normalize(query.float(), dim=-1) * scale).type_as(value)
            key = F.normalize(key.float(), dim=-1).type_as(value)
        if rotations is not None:
            query, key = rotate_halves(query, rotations), rotate_halves(key, rotations)
        if cache is not None:
            key, value = cache.extend(key, value, start)
        mixed: Tensor = self.out(attend(query, key, value, mask=mask, scale=self.scale))
        return mixed
