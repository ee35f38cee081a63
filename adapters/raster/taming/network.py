"""Taming's GPT: minGPT over a class, which is one of the tokens, and an image's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import KVCache
from ...layers.checkpoint import replace_all
from ...layers.linear import Linear
from ...layers.mingpt import Block, block_names

TRAINING_ONLY = frozenset({"class", "embd_pdrop", "resid_pdrop", "attn_pdrop"})
IGNORED = (r"(transformer\.)?blocks\.\d+\.attn\.mask", r"(first_stage_model|cond_stage_model|permuter)\..*")
"""Official keys of masks, and of what a file of the whole model holds besides."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `GPT`, less what only training uses. `block_size` counts the class, and the last token is not read."""

    vocab_size: int
    block_size: int
    n_layer: int = 12
    n_head: int = 8
    n_embd: int = 256
    n_unmasked: int = 0

    def __post_init__(self) -> None:
        if self.n_unmasked:
            raise ConfigError("this GPT reads a map", "its first tokens see one another", "use n_unmasked 0")


class Network(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.vocab_size, config.n_embd)
        self.position = nn.Parameter(nn.init.normal_(torch.empty(1, config.block_size, config.n_embd), std=0.02))
        self.blocks = nn.ModuleList(Block(config.n_embd, config.n_head) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd)
        self.head = Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, ids: Tensor, start: int = 0, caches: Sequence[KVCache] | None = None) -> Tensor:
        """(B, n, V) float32 logits of what follows each of the ids (B, n), class and tokens, from `start` on."""
        x = self.table(ids) + self.position[:, start : start + ids.shape[1]]
        for index, block in enumerate(self.blocks):
            x = block(x, start, None if caches is None else caches[index])
        logits: Tensor = self.head(self.norm(x))
        return logits.float()

    def score(self, labels: Tensor, tokens: Tensor) -> Tensor:
        """(B, L, V) logits of `tokens` (B, L), each from the class and the earlier tokens."""
        return self(torch.cat((labels.unsqueeze(1), tokens[:, :-1]), dim=1))

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` whole images."""
        c, weight = self.config, self.head.weight
        width = c.n_embd // c.n_head
        return [KVCache(rows, c.n_head, c.block_size, width, weight.dtype, weight.device) for _ in self.blocks]


_TO_OFFICIAL = (("table.", "tok_emb."), ("position", "pos_emb"))


def official_names(ours: str) -> tuple[str, ...]:
    """The official keys of one of our parameters."""
    if ours.startswith("norm."):
        return (ours.replace("norm.", "ln_f."),)
    return block_names(replace_all(ours, _TO_OFFICIAL))


def file_names(ours: str) -> tuple[str, ...]:
    """The same in a file of the whole model, VQGAN included."""
    return tuple(f"transformer.{key}" for key in official_names(ours))
