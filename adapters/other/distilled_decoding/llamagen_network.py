"""The student of LlamaGen: its network over token vectors, read where they are and not one place before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...layers import llama
from ...layers.linear import Linear
from ...layers.llama import IGNORED
from .student import ContinuousHead

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]

TRAINING_ONLY = llama.TRAINING_ONLY


@dataclass(frozen=True, slots=True)
class Config(llama.Config):
    """Upstream's `DDTransformer`, and the places `second` and `split` of its sampler."""

    codebook_dim: int = 8
    second: int = 80
    split: int = 80


class Network(llama.Decoder):
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        del self.token_table
        self.vector_in = Linear(config.codebook_dim, config.dim)
        self.kind_table = nn.Embedding(2, config.dim)
        self.continuous = ContinuousHead(config.dim, config.codebook_dim)

    def predict(self, labels: Tensor, vectors: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Token vectors (B, L, C) and logits (B, L, V), given vectors (B, L, C) that are noise from `start` on."""
        condition = self.condition(labels)
        x = torch.cat((condition, self.vector_in(vectors.to(condition.dtype))), dim=1)
        place = torch.arange(x.shape[1], device=x.device)
        x = x + self.kind_table((place <= start).long())
        for block in self.blocks:
            x = block(x, self.rotations)
        return self.continuous(x, condition)[:, 1:], self.logits(self.norm(x))[:, 1:]


_TO_OFFICIAL = {
    "vector_in.weight": "tok_embeddings.weight",
    "vector_in.bias": "tok_embeddings.bias",
    "kind_table.weight": "n_d_embed.weight",
    "continuous.modulation": "final_layer_conti.scale_shift_table",
    "continuous.out.weight": "final_layer_conti.linear.weight",
    "continuous.out.bias": "final_layer_conti.linear.bias",
}


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return (_TO_OFFICIAL[ours],) if ours in _TO_OFFICIAL else llama.official_names(ours)
