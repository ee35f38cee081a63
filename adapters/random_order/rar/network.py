"""RAR's network: a decoder whose inputs say where each token is and where the next will be, modulated by the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.attention import KVCache, attend
from ...layers.checkpoint import replace_all
from ...layers.linear import Linear

EPS = 1e-6
PREFIX = 2
"""Positions before the image: a learned token, then the condition."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `model.generator`, less what only training uses, and the tokenizer's `codebook_size`."""

    hidden_size: int = 768
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 3072
    image_seq_len: int = 256
    condition_num_classes: int = 1000
    codebook_size: int = 1024

    @property
    def mlp_width(self) -> int:
        """Upstream goes through a ratio in floating point, which loses one unit of some widths."""
        return int(self.hidden_size * (self.intermediate_size / self.hidden_size))


TRAINING_ONLY = frozenset({"class", "dropout", "attn_drop", "class_label_dropout", "use_checkpoint"})


class Block(nn.Module):
    """Attention with normalised queries and keys, and an MLP, both modulated at each position (adaLN-zero)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.qkv = Linear(width, 3 * width)
        self.query_norm = nn.LayerNorm(width // self.heads, eps=EPS)
        self.key_norm = nn.LayerNorm(width // self.heads, eps=EPS)
        self.out = Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp_in = Linear(width, config.mlp_width)
        self.mlp_out = Linear(config.mlp_width, width)
        self.modulation = Linear(width, 6 * width)

    def forward(self, x: Tensor, condition: Tensor, start: int, cache: KVCache | None) -> Tensor:
        """`x` (B, n, C) are the positions from `start` on; `condition` (B, n, C) went through silu already."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        x = x + gate1 * self._attention(self.norm1(x) * (1 + scale1) + shift1, start, cache)
        hidden = self.mlp_in(self.norm2(x) * (1 + scale2) + shift2)
        out: Tensor = x + gate2 * self.mlp_out(F.gelu(hidden))
        return out

    def _attention(self, x: Tensor, start: int, cache: KVCache | None) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, H, n, D)
        query, key = self.query_norm(query), self.key_norm(key)
        if cache is not None:
            key, value = cache.extend(key, value, start)
        mixed: Tensor = self.out(attend(query, key, value, causal=x.shape[1] > 1))
        return mixed


class Network(nn.Module):
    """The decoder over a learned token, a condition token and the image's tokens in the order they are drawn."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, length = config.hidden_size, config.image_seq_len
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        # codes, a mask token that only other models of the repository use, classes, "no class"
        self.table = nn.Embedding(config.codebook_size + 1 + config.condition_num_classes + 1, width)
        self.places = nn.Parameter(torch.zeros(1, length + 1024, width))
        self.targets = nn.Parameter(torch.zeros(1, length + 1024, width))
        self.steps = nn.Parameter(torch.zeros(1, length + 100, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.head_modulation = Linear(width, 2 * width)
        self.head = Linear(width, config.codebook_size)

    def condition(self, labels: Tensor) -> Tensor:
        """(B, 1, C) from class ids (B,); the id `condition_num_classes` stands for no class."""
        rows: Tensor = self.table(labels + self.config.codebook_size + 1)
        return rows.unsqueeze(1)

    def positions(self, order: Tensor | None = None) -> Tensor:
        """(B or 1, L + 1, C) to be added to all inputs: where each one is, and where the token it predicts will be.

        `order` (B, L) holds the raster positions in the order of drawing; None is raster order for all. The learned
        token predicts nothing, and the last image token is not an input.
        """
        length = self.config.image_seq_len
        if order is None:
            order = torch.arange(length, device=self.places.device).unsqueeze(0)
        first = torch.arange(PREFIX, device=order.device).expand(len(order), -1)
        where = torch.cat((first, order[:, :-1] + PREFIX), dim=1)
        target = F.pad(self.targets[0, order + PREFIX], (0, 0, 1, 0))
        return self.places[0, where] + target

    def forward(
        self, x: Tensor, condition: Tensor, start: int = 0, caches: Sequence[KVCache] | None = None, last: int = 1
    ) -> Tensor:
        """(B, last, V) float32 logits of the last inputs `x` (B, n, C), which are at the positions from `start` on."""
        # every position's own step embedding goes into its modulation
        condition = F.silu(condition + self.steps[:, start : start + x.shape[1]])
        for index, block in enumerate(self.blocks):
            x = block(x, condition, start, None if caches is None else caches[index])
        scale, shift = self.head_modulation(condition[:, -last:]).chunk(2, dim=-1)  # in the blocks shift comes first
        x = F.layer_norm(x[:, -last:], x.shape[-1:], eps=EPS) * (1 + scale) + shift
        logits: Tensor = self.head(x)
        return logits.float()

    def score(self, labels: Tensor, tokens: Tensor, order: Tensor | None = None) -> Tensor:
        """(B, L, V) logits of `tokens` (B, L, in raster order) in the order of drawing, each from the earlier ones."""
        drawn = tokens if order is None else tokens.gather(1, order)
        condition = self.condition(labels)
        x = torch.cat((self.first.expand(len(tokens), -1, -1), condition, self.table(drawn[:, :-1])), dim=1)
        logits: Tensor = self(x + self.positions(order), condition, last=drawn.shape[1])
        return logits

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` whole images."""
        config, weight = self.config, self.head.weight
        heads, length = config.num_attention_heads, PREFIX + config.image_seq_len - 1
        width = config.hidden_size // heads
        return [KVCache(rows, heads, length, width, weight.dtype, weight.device) for _ in self.blocks]


_TO_OFFICIAL = (
    ("head_modulation.", "adaln_before_head.adaLN_modulation.1."),
    (".modulation.", ".adaLN_modulation.1."),
    (".qkv.", ".attn.qkv."),
    (".query_norm.", ".attn.q_norm."),
    (".key_norm.", ".attn.k_norm."),
    (".out.", ".attn.proj."),
    (".mlp_in.", ".mlp.fc1."),
    (".mlp_out.", ".mlp.fc2."),
)
_TOP = {
    "first": "cls_token",
    "table.weight": "embeddings.weight",
    "places": "pos_embed",
    "targets": "target_aware_pos_embed",
    "steps": "timesteps_embeddings",
    "head.weight": "lm_head.weight",
    "head.bias": "lm_head.bias",
}


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return (_TOP.get(ours) or replace_all(ours, _TO_OFFICIAL),)
