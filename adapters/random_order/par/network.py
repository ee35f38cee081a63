"""PAR's network: the Llama decoder, with learned tokens between those found one by one and the groups after them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers import llama
from ...layers.attention import KVCache
from ...layers.llama import IGNORED, TRAINING_ONLY

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]


@dataclass(frozen=True, slots=True)
class Config(llama.Config):
    """Upstream's `ModelArgs`, less what only training uses."""

    spe_token_num: int = 3
    ar_token_num: int = 4

    def __post_init__(self) -> None:
        if self.model_type != "c2i" or self.cls_token_num != 1:
            raise ConfigError("PAR takes one class token", "its groups are laid out for one", 'use model_type "c2i"')
        if math.isqrt(self.ar_token_num) ** 2 != self.ar_token_num or self.side % self.regions:
            raise ConfigError(
                f"{self.ar_token_num} regions do not divide {self.side} x {self.side} tokens",
                "there are n x n regions of equal size",
                "use another ar_token_num",
            )
        if (self.block_size - self.ar_token_num) % self.group:
            raise ConfigError(
                f"groups of {self.group} do not fill {self.block_size - self.ar_token_num} tokens",
                "a group is a token for each of spe_token_num, and one more",
                "use spe_token_num = ar_token_num - 1",
            )

    @property
    def side(self) -> int:
        return math.isqrt(self.block_size)

    @property
    def regions(self) -> int:
        """Regions along an edge."""
        return math.isqrt(self.ar_token_num)

    @property
    def group(self) -> int:
        """Tokens of a pass, after the first region tokens."""
        return self.spe_token_num + 1


class Network(llama.Decoder):
    """The sequence is class, first tokens, learned tokens, other tokens; the class and the learned ones do not turn."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.bridge = nn.Embedding(config.spe_token_num, config.dim)

    def order(self, device: torch.device | str) -> Tensor:
        """(L,) the raster index of the token decoded first, second, ...: place by place, region by region."""
        c = self.config
        cells = torch.arange(c.block_size, device=device).reshape(c.regions, c.side // c.regions, c.regions, -1)
        return cells.permute(1, 3, 0, 2).flatten()

    def _rotations(self, device: torch.device | str) -> Tensor:
        table = super()._rotations("cpu")
        with torch.device("cpu"):
            inner = table[1:][self.order("cpu")]
            still = torch.zeros(self.config.spe_token_num, *inner.shape[1:])
        first = self.config.ar_token_num
        return torch.cat((table[:1], inner[:first], still, inner[first:])).to(device)

    def score(self, labels: Tensor, tokens: Tensor) -> Tensor:
        """(B, L, V) logits, in the order of decoding, of tokens (B, L) in that order."""
        c = self.config
        embedded = self.token_table(tokens[:, : -c.group])
        bridge = self.bridge.weight.expand(len(tokens), -1, -1)
        first, rest = embedded[:, : c.ar_token_num], embedded[:, c.ar_token_num :]
        x = torch.cat((self.condition(labels), first, bridge, rest), dim=1)
        return self.logits(self(x, mask=self.sight(x.shape[1], x.device)))

    def sight(self, length: int, device: torch.device | str) -> Tensor:
        """(length, length) boolean: who sees whom; groups begin with the last of the first tokens."""
        place = torch.arange(length, device=device)
        past = place - self.config.ar_token_num
        end = torch.where(past >= 0, place + self.config.group - 1 - past % self.config.group, place)
        return end[:, None] >= place

    def allocate(self, rows: int, length: int | None = None) -> list[KVCache]:
        """Caches for `rows` whole images, or for `rows` sequences of `length` positions."""
        return super().allocate(rows, length or 1 + self.config.block_size + self.config.spe_token_num)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return llama.official_names(ours.replace("bridge.", "spe_tok_embeddings.special_embeddings."))
