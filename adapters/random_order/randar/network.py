"""RandAR's network: the Llama decoder of `layers/llama.py` over tokens in any order.

Before each token stands a position instruction token that says where it belongs:
class, query, token, query, token, ... The states at the queries give the logits of the tokens that follow them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers import llama
from ...layers.attention import KVCache
from ...layers.llama import IGNORED
from ...layers.rope import rotate_pairs, stretched_rotations

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "interleave", "official_names"]

TRAINING_ONLY = llama.TRAINING_ONLY | {"zero_class_qk", "grad_checkpointing"}


@dataclass(frozen=True, slots=True)
class Config(llama.Config):
    """Upstream's `RandARTransformer`, less what only training uses.

    `extrapolation_factor` 2 makes images of twice the side that the network was trained for.
    """

    position_order: Literal["random", "raster"] = "random"
    num_inference_steps: int = 88
    extrapolation_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.model_type != "c2i" or self.cls_token_num != 1:
            raise ConfigError("RandAR takes one class token", "upstream has no other", 'use model_type "c2i"')
        if self.extrapolation_factor not in (1, 2):
            raise ConfigError(
                f"RandAR cannot extrapolate {self.extrapolation_factor} times",
                "upstream's order of tokens is made for a factor of 2",
                "use extrapolation_factor 1 or 2",
            )

    @property
    def side(self) -> int:
        """Tokens a side of the images that are made."""
        return math.isqrt(self.block_size) * int(self.extrapolation_factor)


class Network(llama.Decoder):
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.instruction = nn.Parameter(torch.empty(1, config.dim))
        nn.init.normal_(self.instruction, std=0.02)
        self._fine: dict[int, Tensor] = {}

    def fine_rotations(self, boundary: int) -> Tensor:
        """(4 * block_size, head_width / 2, 2): rotations of twice the trained side, copied to the device once."""
        kept = self._fine.get(boundary)
        if kept is None or kept.device != self.rotations.device:
            config = self.config
            side = 2 * math.isqrt(config.block_size)
            made = stretched_rotations(side, config.head_width, factor=2, boundary=boundary, base=config.rope_base)
            kept = self._fine[boundary] = made.to(self.rotations.device)
        return kept

    def instructions(self, rotations: Tensor) -> Tensor:
        """(B, n, dim) queries for places with rotations (B, 1, n, head_width / 2, 2)."""
        heads = self.instruction.unflatten(-1, (self.config.n_head, -1)).unsqueeze(2)  # (1, H, 1, D)
        return rotate_pairs(heads, rotations).transpose(1, 2).flatten(2)

    def allocate(self, rows: int, length: int | None = None) -> list[KVCache]:
        """Caches for `rows` whole images, or for `rows` sequences of `length` positions."""
        return super().allocate(rows, length or 1 + 2 * self.config.side**2)

    def score_in_order(self, labels: Tensor, tokens: Tensor, order: Tensor) -> Tensor:
        """(B, L, V) logits, in the order of decoding, of tokens (B, L) in raster order."""
        rotations = self.rotations[1:][order].unsqueeze(1)  # (B, 1, L, D / 2, 2)
        pairs = interleave(self.instructions(rotations), self.token_table(tokens.gather(1, order)))
        x = torch.cat((self.condition(labels), pairs), dim=1)[:, :-1]
        first = self.rotations[:1].expand(len(order), 1, -1, -1, -1)
        rotations = torch.cat((first, rotations.repeat_interleave(2, dim=2)), dim=2)[:, :, :-1]
        return self.logits(self(x, rotations=rotations)[:, 1::2])


def interleave(first: Tensor, second: Tensor) -> Tensor:
    """(B, 2n, ...): one of `first`, one of `second`, and so on."""
    return torch.stack((first, second), dim=2).flatten(1, 2)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return ("pos_instruct_embeddings",) if ours == "instruction" else llama.official_names(ours)
