"""DetailFlow's network: the grouped Llama decoder over a row of tokens, whose places are those of a table of groups."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from arbench.errors import ConfigError

from ...layers import llama
from ...layers.grouped import GroupedDecoder, official_names
from ...layers.llama import IGNORED, TRAINING_ONLY
from ...layers.rope import grid_rotations

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]


@dataclass(frozen=True, slots=True)
class Config(llama.Config):
    """Upstream's `ModelArgs`, less what only training uses."""

    group_size: int = 8
    causal_num: int | None = None
    """Tokens found one by one; None: a group of them."""

    def __post_init__(self) -> None:
        if self.model_type != "c2i" or self.cls_token_num != 1:
            raise ConfigError("DetailFlow takes one class token", "its groups begin behind one", 'use model_type "c2i"')
        if self.first % self.group_size or self.block_size % self.group_size:
            raise ConfigError(
                f"{self.first} single tokens and groups of {self.group_size} do not make up {self.block_size} tokens",
                "the single tokens are whole groups too",
                "use multiples of group_size",
            )

    @property
    def first(self) -> int:
        return self.group_size if self.causal_num is None else self.causal_num


class Network(GroupedDecoder):
    """Its sequence is the class, the first tokens, learned tokens, and the others."""

    config: Config

    @property
    def first(self) -> int:
        return self.config.first

    @property
    def group(self) -> int:
        return self.config.group_size

    def _rotations(self, device: torch.device | str) -> Tensor:
        """Of the sequence as it stands, learned tokens included: a token's row is not that of its own group."""
        c = self.config
        rows = c.block_size // c.group_size
        with torch.device("cpu"):
            table = grid_rotations(rows, c.head_width, base=c.rope_base, condition=1, columns=c.group_size)
        return table.to(device)
