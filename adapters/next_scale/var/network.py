"""VAR's network: a transformer over all token maps of an image at once, modulated by the class (adaptive norm)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.attention import KVCache
from ...layers.checkpoint import replace_all
from ...layers.linear import Linear
from ...layers.scale_attention import ScaleAttention


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's arguments of `VAR`, less what only training uses, and the tokenizer's code count and width."""

    patch_nums: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    vocab_size: int = 4096
    z_channels: int = 32
    num_classes: int = 1000
    depth: int = 16
    embed_dim: int = 1024
    num_heads: int = 16
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
    shared_aln: bool = False
    attn_l2_norm: bool = False

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each scale."""
        return tuple(side * side for side in self.patch_nums)

    @property
    def starts(self) -> tuple[int, ...]:
        """Position of the first token of each scale."""
        return tuple(sum(self.lengths[:scale]) for scale in range(len(self.lengths)))

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


TRAINING_ONLY = frozenset(
    {"class", "drop_rate", "attn_drop_rate", "drop_path_rate", "cond_drop_rate"}
    | {"flash_if_available", "fused_if_available"}
)


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        width, hidden = config.embed_dim, round(config.embed_dim * config.mlp_ratio)
        self.eps = config.norm_eps
        self.attention = ScaleAttention(width, config.num_heads, unit=config.attn_l2_norm)
        self.mlp_in = Linear(width, hidden)
        self.mlp_out = Linear(hidden, width)
        if config.shared_aln:
            self.modulation_offset = nn.Parameter(torch.zeros(1, 1, 6, width))
        else:
            self.modulation = Linear(width, 6 * width)

    def modulate(self, condition: Tensor) -> Tensor:
        """(B, 1, 6, C): gates, scales and shifts of attention and MLP, two each.

        `condition` is silu(class embedding) (B, C), or the shared projection (B, 1, 6, C) of it.
        """
        if condition.dim() == 4:
            return self.modulation_offset + condition
        return self.modulation(condition).unflatten(-1, (1, 6, -1))

    def forward(
        self, x: Tensor, modulation: Tensor, start: int = 0, cache: KVCache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """`x` (B, n, C) in float32: sums and norms stay there, whatever the type of the weights."""
        gate1, gate2, scale1, scale2, shift1, shift2 = modulation.unbind(2)
        x = x + self.attention(self._adapt(x, scale1, shift1), start, cache, mask) * gate1
        hidden = F.gelu(self.mlp_in(self._adapt(x, scale2, shift2)), approximate="tanh")
        return x + self.mlp_out(hidden) * gate2

    def _adapt(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return (F.layer_norm(x, x.shape[-1:], eps=self.eps) * (scale + 1) + shift).type_as(self.mlp_in.weight)


class Network(nn.Module):
    """The transformer. Blocks may be in half precision; embeddings, positions and the head are float32."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, scales = config.embed_dim, len(config.patch_nums)
        self.config = config
        self.class_table = nn.Embedding(config.num_classes + 1, width)  # the last row is "no class"
        self.first_position = nn.Parameter(torch.zeros(1, config.lengths[0], width))
        self.position = nn.Parameter(torch.zeros(1, config.tokens, width))
        self.level_table = nn.Embedding(scales, width)
        self.features_in = Linear(config.z_channels, width)
        if config.shared_aln:
            self.shared_modulation = Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head_modulation = Linear(width, 2 * width)
        self.head = Linear(width, config.vocab_size)

    def place(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        self.to(device=device, dtype=torch.float32)
        self.blocks.to(dtype=dtype)
        if self.config.shared_aln:
            self.shared_modulation.to(dtype=dtype)
        return self

    def modulate(self, condition: Tensor) -> list[Tensor]:
        """One (B, 1, 6, C) per block from class embeddings (B, C); the same at every scale."""
        raised = F.silu(condition).type_as(self.blocks[0].mlp_in.weight)
        if self.config.shared_aln:
            raised = self.shared_modulation(raised).unflatten(-1, (1, 6, -1))
        return [block.modulate(raised).float() for block in self.blocks]

    def embed(self, features: Tensor | None, condition: Tensor, scale: int) -> Tensor:
        """(B, n, C) input of one scale: from the class for the first, else from features (B, n, C_vae)."""
        begin, length = self.config.starts[scale], self.config.lengths[scale]
        place = self.position[:, begin : begin + length] + self.level_table.weight[scale]
        if features is None:
            return condition.unsqueeze(1) + self.first_position + place
        return self.features_in(features) + place

    def forward(
        self,
        x: Tensor,
        modulations: Sequence[Tensor],
        start: int = 0,
        caches: Sequence[KVCache] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(B, n, C) states of the tokens from position `start` on; earlier ones are in the caches."""
        for index, (block, modulation) in enumerate(zip(self.blocks, modulations, strict=True)):
            x = block(x, modulation, start, None if caches is None else caches[index], mask)
        return x

    def logits(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, n, V) float32."""
        scale, shift = self.head_modulation(F.silu(condition)).unflatten(-1, (1, 2, -1)).unbind(2)
        normal = F.layer_norm(x.float(), x.shape[-1:], eps=self.config.norm_eps)
        logits: Tensor = self.head(normal * (scale + 1) + shift)
        return logits

    def score(self, labels: Tensor, features: Tensor) -> Tensor:
        """(B, L, V): logits of all tokens, given what each later scale is fed (B, L - first scale, C_vae)."""
        config = self.config
        condition = self.class_table(labels)
        inputs = [self.embed(None, condition, 0)]
        for scale, part in enumerate(features.split(list(config.lengths[1:]), dim=1), start=1):
            inputs.append(self.embed(part, condition, scale))
        states = self(torch.cat(inputs, dim=1), self.modulate(condition), mask=self.sight(features.device))
        return self.logits(states, condition)

    def sight(self, device: torch.device | str) -> Tensor:
        """(L, L) boolean: a token sees its own scale and those before it."""
        lengths = torch.tensor(self.config.lengths, device=device)
        level = torch.arange(len(lengths), device=device).repeat_interleave(lengths)
        return level[:, None] >= level[None]

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` whole images."""
        config, weight = self.config, self.blocks[0].mlp_in.weight
        width = config.embed_dim // config.num_heads
        return [
            KVCache(rows, config.num_heads, config.tokens, width, weight.dtype, weight.device)
            for _ in range(config.depth)
        ]


IGNORED = (r"lvl_1L", r"attn_bias_for_masking", r"blocks\.\d+\.attn\.zero_k_bias")
"""Official keys that hold what can be computed."""

_TO_OFFICIAL = (
    ("class_table.", "class_emb."),
    ("first_position", "pos_start"),
    ("level_table.", "lvl_embed."),
    ("features_in.", "word_embed."),
    ("shared_modulation.", "shared_ada_lin.1."),
    ("head_modulation.", "head_nm.ada_lin.1."),
    (".modulation_offset", ".ada_gss"),
    (".modulation.", ".ada_lin.1."),
    (".attention.qkv.", ".attn.mat_qkv."),
    (".attention.out.", ".attn.proj."),
    (".attention.log_scale", ".attn.scale_mul_1H11"),
    (".attention.", ".attn."),
    (".mlp_in.", ".ffn.fc1."),
    (".mlp_out.", ".ffn.fc2."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    if ours == "position":
        return ("pos_1LC",)
    return (replace_all(ours, _TO_OFFICIAL),)
