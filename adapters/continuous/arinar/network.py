"""ARINAR's network: MAR's backbone, and a small transformer over the numbers of a token with Gaussian mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import KVCache
from ...layers.checkpoint import replace_patterns
from ...layers.linear import Linear
from ...next_scale.var import network as var
from ..mar import network as mar

TRAINING_ONLY = (*mar.TRAINING_ONLY, "head_width", "head_depth", "head_batch_mul")
IGNORED = (r"arhead\.blocks\.\d+\.attn\.zero_k_bias",)
HEADS, EPS = 16, 1e-6
"""Fixed upstream."""


@dataclass(frozen=True, slots=True)
class Config(mar.Config):
    """Upstream's `MAR` with the head `ar_gmm`, less what only training uses."""

    num_gaussians: int = 1
    head_type: str = "ar_gmm"
    inner_ar_width: int = 1024
    inner_ar_depth: int = 1
    bilevel_schedule: str = "constant"
    feature_group: int = 1
    use_nf: bool = False

    def __post_init__(self) -> None:
        if self.head_type != "ar_gmm" or self.use_nf or self.channels % self.feature_group:
            raise ConfigError(
                f"this head of ARINAR is not here: {self.head_type}{', with a flow' if self.use_nf else ''}",
                "the published model draws groups of numbers from Gaussian mixtures",
                'use head_type "ar_gmm", use_nf false and groups that fill a token',
            )

    @property
    def groups(self) -> int:
        return self.channels // self.feature_group


@dataclass(frozen=True, slots=True)
class Mixture:
    """Gaussian mixtures: weights (..., K), means and log variances (..., K, F)."""

    weight: Tensor
    mean: Tensor
    logvar: Tensor

    def log_likelihood(self, x: Tensor, constant: float = 0.0) -> Tensor:
        """(...) of x (..., F), less what `constant` stands for."""
        squares = (x.unsqueeze(-2) - self.mean).square() / self.logvar.exp() + self.logvar + constant
        return torch.logsumexp(self.weight.log() - 0.5 * squares.sum(-1), dim=-1)


Modulations = tuple[list[Tensor], Tensor]
"""Those of the blocks (N, 1, 6, W), and scales and shifts of what leaves them (N, 1, 2, W)."""


class Head(nn.Module):
    """Mixtures of the next group of a token's numbers, given a state and the groups before it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c, width = config, config.inner_ar_width
        self.config = config
        self.token_in = Linear(c.feature_group, width)
        self.state_in = Linear(c.decoder_embed_dim, width)
        self.first = nn.Parameter(torch.empty(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, c.groups, width))
        for parameter in (self.first, self.position):
            nn.init.normal_(parameter, std=0.02)
        inner = var.Config(embed_dim=width, num_heads=HEADS, depth=c.inner_ar_depth)
        self.blocks = nn.ModuleList(var.Block(inner) for _ in range(c.inner_ar_depth))
        for block in self.blocks:
            block.modulation = Linear(c.decoder_embed_dim, 6 * width)
        self.modulation = Linear(c.decoder_embed_dim, 2 * width)
        self.out = Linear(width, c.num_gaussians * (2 * c.feature_group + 1))

    def modulate(self, states: Tensor) -> Modulations:
        """Of states (N, Z): they are the same for all groups of a token."""
        raised = F.silu(states)
        blocks = [block.modulate(raised) for block in self.blocks]
        return blocks, self.modulation(raised).unflatten(-1, (1, 2, -1))

    def forward(
        self, x: Tensor, modulations: Modulations, start: int = 0, caches: Sequence[KVCache] | None = None
    ) -> Mixture:
        """Mixtures (N, n, ...) at the groups from `start` on, of `x` (N, n, W) without positions."""
        x = x + self.position[:, start : start + x.shape[1]]
        mask = None
        if caches is None:
            place = torch.arange(x.shape[1], device=x.device)
            mask = place[:, None] >= place
        for index, block in enumerate(self.blocks):
            x = block(x, modulations[0][index], start, None if caches is None else caches[index], mask)
        scale, shift = modulations[1].unbind(2)
        made = self.out(F.layer_norm(x, x.shape[-1:], eps=EPS) * (scale + 1) + shift).float()
        k, f = self.config.num_gaussians, self.config.feature_group
        mean, logvar, weight = made.split([k * f, k * f, k], dim=-1)
        return Mixture(weight.softmax(-1), mean.unflatten(-1, (k, f)), logvar.unflatten(-1, (k, f)))

    def start(self, states: Tensor) -> Tensor:
        """(N, 1, W): what the first group is fed."""
        return self.state_in(states).unsqueeze(1) + self.first

    def allocate(self, rows: int) -> list[KVCache]:
        width, weight = self.config.inner_ar_width // HEADS, self.out.weight
        return [KVCache(rows, HEADS, self.config.groups, width, weight.dtype, weight.device) for _ in self.blocks]


class Network(mar.Network):
    config: Config
    head: Head  # type: ignore[assignment]

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.head = Head(config)


_HEAD_TO_OFFICIAL = (
    (r"^head\.token_in\.", "arhead.input_proj."),
    (r"^head\.state_in\.", "arhead.cond_proj."),
    (r"^head\.first", "arhead.start_token"),
    (r"^head\.position", "arhead.pos_embedding"),
    (r"^head\.modulation\.", "arhead.head_nm.ada_lin.1."),
    (r"^head\.out\.", "arhead.head."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    if ours.startswith("head.blocks."):
        return tuple(f"arhead.{name}" for name in var.official_names(ours.removeprefix("head.")))
    if ours.startswith("head."):
        return (replace_patterns(ours, _HEAD_TO_OFFICIAL),)
    return mar.official_names(ours)
