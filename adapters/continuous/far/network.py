"""FAR's network: MAR's, with a head that is told how sharp the latents are to be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...layers.diffusion_head import DiffusionHead
from ...layers.linear import Linear
from ..mar import network as mar

TRAINING_ONLY = mar.TRAINING_ONLY
CLASSES = 1000
"""Hard-coded upstream, whatever the config says."""


@dataclass(frozen=True, slots=True)
class Config(mar.Config):
    """Upstream's `FAR`; with `mask` it is sampled in random order as well."""

    mask: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_num", CLASSES)


class IndexedHead(DiffusionHead):
    """The index, a side of the grid that latents are smoothed to, goes in with the state."""

    def __init__(self, channels: int, states: int, width: int, depth: int) -> None:
        super().__init__(channels, states, width, depth)
        self.index_in = Linear(1, width)

    def embed(self, states: Tensor, index: int) -> Tensor:
        """(..., W) of states (..., Z)."""
        embedded: Tensor = self.state_in(states)
        given: Tensor = self.index_in(torch.full((1, 1), float(index), dtype=states.dtype, device=states.device))
        return embedded + given


class Network(mar.Network):
    config: Config
    head: IndexedHead

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.head = IndexedHead(config.channels, config.decoder_embed_dim, config.diffloss_w, config.diffloss_d)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return (
        mar.official_names(ours)
        if "index_in." not in ours
        else (ours.replace("head.index_in.", "diffloss.net.index_cond_embed."),)
    )
