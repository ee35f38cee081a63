"""PAR's network: the Llama decoder, with learned tokens between those found one by one and the groups after them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from arbench.errors import ConfigError

from ...layers import llama
from ...layers.grouped import GroupedDecoder, official_names
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


class Network(GroupedDecoder):
    """Tokens in the order of regions; the class and the learned tokens do not turn."""

    config: Config

    @property
    def first(self) -> int:
        return self.config.ar_token_num

    @property
    def group(self) -> int:
        return self.config.group

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
        return torch.cat((table[:1], inner[: self.first], still, inner[self.first :])).to(device)
