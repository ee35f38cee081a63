"""NAR's network: LlamaGen's, with a second head that looks down behind further layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...layers import llama
from ...layers.attention import KVCache
from ...layers.linear import Linear
from ...layers.llama import IGNORED, TRAINING_ONLY
from ...raster.llamagen import network as llamagen

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]


@dataclass(frozen=True, slots=True)
class Config(llama.Config):
    """Upstream's `ModelArgs`, less what only training uses."""

    medusa_attention_num: int = 1

    @property
    def side(self) -> int:
        return int(self.block_size**0.5)


class Network(llamagen.Network):
    """`forward` gives states for the head that looks right and for the one that looks down."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.blocks.extend(llama.Block(config) for _ in range(config.medusa_attention_num))
        self.below_norm = llama.RMSNorm(config.dim, config.norm_eps)
        self.below = Linear(config.dim, config.vocab_size, bias=False)

    def directions(
        self,
        x: Tensor,
        rotations: Tensor,
        start: int = 0,
        caches: Sequence[KVCache] | None = None,
        mask: Tensor | None = None,
        *,
        rows: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, n, V) of the tokens to the right of and below the embedded tokens `x` (B, n, dim).

        Without a mask tokens see one another and all before. With `rows` the others only fill up (`filled_up`).
        """
        right = x
        for index, block in enumerate(self.blocks):
            cache = None if caches is None else caches[index]
            x = block(x, rotations, start, cache, mask, rows=rows, causal=False)
            if index == self.config.n_layer - 1:
                right = x
        return self.logits(self.norm(right))[:rows], self.below(self.below_norm(x))[:rows].float()

    def diagonals(self) -> list[list[int]]:
        """Raster indices of the cells of each anti-diagonal, from the top down."""
        side = self.config.side
        return [
            [row * side + column - row for row in range(side) if 0 <= column - row < side]
            for column in range(2 * side - 1)
        ]

    def order(self) -> Tensor:
        """(L,) the raster index of the cell drawn first, second, ...: the `diagonals` as a tensor of the device."""
        place = torch.arange(self.config.side, device=self.rotations.device)
        return (place[:, None] + place).flatten().argsort(stable=True)

    def score(self, given: Tensor, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, L, V) logits of `tokens` (B, L) in raster order, each from the anti-diagonals before its own."""
        side, condition = self.config.side, self.condition(given)
        count = condition.shape[1]
        x = torch.cat((condition, self.token_table(tokens)), dim=1)
        right, below = self.directions(x, self.rotations, mask=self.sight(len(x), valid, x.device))
        corner = (right[:, count - 1] + below[:, count - 1]) / 2
        right, below = (each[:, count:].unflatten(1, (side, side)) for each in (right, below))
        logits = torch.empty_like(right)
        logits[:, 0, 0] = corner
        logits[:, 0, 1:] = right[:, 0, :-1]
        logits[:, 1:, 0] = below[:, :-1, 0]
        logits[:, 1:, 1:] = (right[:, 1:, :-1] + below[:, :-1, 1:]) / 2
        return logits.flatten(1, 2)

    def sight(self, rows: int, valid: Tensor | None, device: torch.device | str) -> Tensor:
        """(rows or 1, 1, T + L, T + L) boolean: causal over the condition, by anti-diagonals over the raster."""
        count, side = self.config.cls_token_num, self.config.side
        place = torch.arange(side, device=device)
        when = count + (place[:, None] + place).flatten()
        when = torch.cat((torch.arange(count, device=device), when))
        square = (when[:, None] >= when).expand(1, 1, -1, -1)
        if valid is None:
            return square
        seen = torch.ones(rows, 1, 1, len(when), dtype=torch.bool, device=device)
        seen[..., :count] = valid.bool()[:, None, None]
        return (square & seen) | torch.eye(len(when), dtype=torch.bool, device=device)

    def allocate(self, rows: int, length: int | None = None) -> list[KVCache]:
        """Caches for `rows` whole images, or for `rows` sequences of `length` positions."""
        config, weight = self.config, self.head.weight
        length = length or config.cls_token_num + config.block_size
        return [
            KVCache(rows, config.kv_heads, length, config.head_width, weight.dtype, weight.device)
            for _ in range(config.n_layer + config.medusa_attention_num)
        ]


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    if ours.startswith("below"):
        return (ours.replace("below_norm.", "medusa_norm.").replace("below.", "medusa_output."),)
    return llamagen.official_names(ours)
