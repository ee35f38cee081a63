"""FlexVAR's network: VAR's, with positions that are one map resized to every scale, and without levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..var import network as var

TRAINING_ONLY = var.TRAINING_ONLY | {"token_dropout_p"}
IGNORED = var.IGNORED
POSITIONS = 32
"""Rows and columns of the map of positions."""


@dataclass(frozen=True, slots=True)
class Config(var.Config):
    """Upstream's arguments of `FlexVAR`, and the tokenizer's code count and width (`Cvae`)."""

    Cvae: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "z_channels", self.Cvae)


class Network(var.Network):
    """`positions` gives what to add to the tokens of some scales; these need not be those of the config."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        del self.level_table
        self.position = nn.Parameter(torch.zeros(1, config.embed_dim, POSITIONS, POSITIONS))
        nn.init.normal_(self.position, std=0.02)

    def positions(self, sides: Sequence[int]) -> list[Tensor]:
        """(1, side * side, C) for each side."""
        return [F.interpolate(self.position, size=(side, side), mode="area").flatten(2).mT for side in sides]

    def score_scales(self, labels: Tensor, features: Sequence[Tensor], sides: Sequence[int]) -> Tensor:
        """(B, L, V): logits of all tokens, given what each later scale is fed, (B, side * side, C_vae)."""
        condition, positions = self.class_table(labels), self.positions(sides)
        inputs = [condition.unsqueeze(1) + self.first_position + positions[0]]
        inputs += [self.features_in(part) + place for part, place in zip(features, positions[1:], strict=True)]
        level = torch.cat([torch.full((side * side,), scale, device=labels.device) for scale, side in enumerate(sides)])
        states = self(torch.cat(inputs, dim=1), self.modulate(condition), mask=level[:, None] >= level)
        return self.logits(states, condition)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return var.official_names(ours)
