"""Blocks of flow-matching transformers: adaptive RMS norm, rotary attention, gated MLP. FlowAR's and xAR's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import KVCache, attend
from .diffusion_head import FREQUENCIES, time_features
from .linear import Linear
from .rope import rotate_pairs

EPS = 1e-6


def rms_normal(x: Tensor) -> Tensor:
    return F.rms_norm(x.float(), x.shape[-1:], None, EPS).type_as(x)


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return rms_normal(x) * self.weight


class TimeEmbedding(nn.Module):
    """An MLP over sines and cosines of a time from 0 to 1000."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time_in = Linear(2 * FREQUENCIES, width)
        self.time_out = Linear(width, width)

    def forward(self, times: Tensor) -> Tensor:
        """(N, W) of times (N,)."""
        features = time_features(times).to(self.time_in.weight.dtype)
        embedded: Tensor = self.time_out(F.silu(self.time_in(features)))
        return embedded


def truncated(time: float, device: torch.device) -> Tensor:
    """(1,) the whole thousandths of a time in [0, 1], cut off in float32 as upstream does."""
    return torch.full((1,), time, dtype=torch.float32, device=device).mul(1000).long()


def filled(numbers: Sequence[float], device: torch.device) -> Tensor:
    """(N,) float32, written on the device one by one: a call that copies numbers there cannot be one CUDA graph."""
    return torch.cat([torch.full((1,), number, dtype=torch.float32, device=device) for number in numbers])


def even(first: float, last: float, count: int) -> list[float]:
    """`count` evenly spaced numbers, computed from both ends as torch's `linspace` does."""
    if count == 1:
        return [first]
    step = (last - first) / (count - 1)
    return [first + step * i if i < count // 2 else last - step * (count - 1 - i) for i in range(count)]


def annealed(first: int, last: int, count: int) -> list[int]:
    """Steps of each of `count` scales or cells, linear from `first` to `last`, cut off."""
    return [int((first - last) * (count - 1 - index) / max(count - 1, 1) + last) for index in range(count)]


class Attention(nn.Module):
    """Attention whose queries and keys turn with their places."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width, bias=bias)
        self.out = Linear(width, width)

    def forward(
        self, x: Tensor, rotations: Tensor, start: int = 0, cache: KVCache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """`x` (B, n, W) stand at `start` and behind it in the cache, with rotations (n, D / 2, 2)."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = rotate_pairs(query, rotations), rotate_pairs(key, rotations)
        if cache is not None:
            key, value = cache.extend(key, value, start)
        out: Tensor = self.out(attend(query, key, value, mask=mask))
        return out


class GatedMLP(nn.Module):
    """GELU of one projection times another, two thirds of `mlp_ratio` as wide as without a gate."""

    def __init__(self, width: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio * 2 / 3.0)
        self.gate = Linear(width, hidden)
        self.up = Linear(width, hidden)
        self.down = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.gelu(self.gate(x)) * self.up(x))
        return out


class FlowBlock(nn.Module):
    """A block whose norms are shifted and scaled, and whose parts are gated, by a condition."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0, *, bias: bool = True) -> None:
        super().__init__()
        self.attention = Attention(width, heads, bias=bias)
        self.mlp = GatedMLP(width, mlp_ratio)
        self.modulation = Linear(width, 6 * width)

    def modulate(self, raised: Tensor) -> Tensor:
        """(..., 6, W): gates, scales and shifts, from the silu of a condition (..., W)."""
        return self.modulation(raised).unflatten(-1, (6, -1))

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        rotations: Tensor,
        start: int = 0,
        cache: KVCache | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """`modulation` (B, n or 1, 6, W) is `modulate` of the condition."""
        gate1, gate2, scale1, scale2, shift1, shift2 = modulation.unbind(2)
        h = rms_normal(x) * (scale1 + 1) + shift1
        x = x + self.attention(h, rotations, start, cache, mask) * gate1
        out: Tensor = x + self.mlp(rms_normal(x) * (scale2 + 1) + shift2) * gate2
        return out


TO_OFFICIAL = (
    (r"\.attention\.qkv\.", ".attn.qkv."),
    (r"\.attention\.out\.", ".attn.proj."),
    (r"\.mlp\.gate\.", ".mlp.fc1_g."),
    (r"\.mlp\.up\.", ".mlp.fc1_x."),
    (r"\.mlp\.down\.", ".mlp.fc2."),
    (r"\.time_in\.", ".mlp.0."),
    (r"\.time_out\.", ".mlp.2."),
)
"""Our names of these blocks -> official ones, as regular expressions; modulations are named by each system."""
