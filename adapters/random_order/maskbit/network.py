"""MaskBit's generator: a BERT that reads the bits of tokens as they are, and predicts each half of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.attention import attend
from ...layers.checkpoint import replace_patterns
from ...layers.linear import Linear

IGNORED = (r"bits_to_indices",)
"""Official keys of buffers that are computed."""
TRAINING_ONLY = frozenset({"class", "dropout"})
EPS = 1e-12


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `LFQBert`, with its defaults."""

    img_size: int = 256
    hidden_dim: int = 768
    codebook_size: int = 1024
    codebook_splits: int = 1
    depth: int = 24
    heads: int = 8
    mlp_dim: int = 3072
    nclass: int = 1000
    input_stride: int = 16
    use_prenorm: bool = False

    @property
    def tokens(self) -> int:
        return (self.img_size // self.input_stride) ** 2

    @property
    def bits(self) -> int:
        """Of a token."""
        return self.codebook_size.bit_length() - 1

    @property
    def split_bits(self) -> int:
        """Of each part of a token that is drawn on its own."""
        return self.bits // self.codebook_splits

    @property
    def mask(self) -> int:
        """The id of a masked part, and how many values a part has."""
        return int(2**self.split_bits)


class Block(nn.Module):
    """Attention over all positions and an MLP, with a norm after each, or before each."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.hidden_dim
        self.heads, self.before = config.heads, config.use_prenorm
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.mlp_in, self.mlp_out = Linear(width, config.mlp_dim), Linear(config.mlp_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(self.norm1(x) if self.before else x)
        query, key, value = heads.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(attend(query, key, value))
        if self.before:
            return x + self._mlp(self.norm2(x))
        x = self.norm1(x)
        out: Tensor = self.norm2(x + self._mlp(x))
        return out

    def _mlp(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp_out(F.gelu(self.mlp_in(x)))
        return out


class Network(nn.Module):
    """Logits of all parts of all tokens from a class and the tokens so far, masked parts with the id `Config.mask`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_dim
        self.classes = nn.Embedding(config.nclass + 1, width)  # the last is "no class"
        self.bits = Linear(config.split_bits * config.codebook_splits, width)
        self.places = nn.Parameter(torch.zeros(1, config.tokens + 1, width))
        nn.init.trunc_normal_(self.places, std=0.02)
        self.norm_in = nn.LayerNorm(width, eps=EPS)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm_blocks = nn.LayerNorm(width, eps=EPS) if config.use_prenorm else nn.Identity()
        self.head_in, self.norm_head = Linear(width, width), nn.LayerNorm(width, eps=EPS)
        self.head = Linear(width, config.codebook_splits * config.mask)

    def forward(self, labels: Tensor, tokens: Tensor) -> Tensor:
        """(B, N, splits, V) float32 logits for classes (B,), `nclass` for none, and parts of tokens (B, N, splits).

        Tokens of B / 2 samples are those of both halves of guidance, and are embedded once.
        """
        config = self.config
        places = torch.arange(config.split_bits, device=tokens.device)
        signs = ((tokens.unsqueeze(-1) >> places) & 1) * 2 - 1
        signs = signs.masked_fill((tokens == config.mask).unsqueeze(-1), 0).flatten(2)
        embedded = self.bits(signs.to(self.places.dtype)).repeat(len(labels) // len(tokens), 1, 1)
        # the class comes last
        x = self.norm_in(torch.cat((embedded, self.classes(labels).unsqueeze(1)), dim=1) + self.places)
        for block in self.blocks:
            x = block(x)
        x = self.norm_head(F.gelu(self.head_in(self.norm_blocks(x[:, :-1]))))
        logits: Tensor = self.head(x).float()
        return logits.unflatten(-1, (config.codebook_splits, config.mask))

    def whole(self, parts: Tensor) -> Tensor:
        """(B, N) ids of parts (B, N, splits), the first of which holds the least bits."""
        places = torch.arange(self.config.codebook_splits, device=parts.device) * self.config.split_bits
        return (parts << places).sum(-1)


_TO_OFFICIAL = (
    (r"^classes\.", "class_emb."),
    (r"^bits\.", "input_proj."),
    (r"^places$", "pos_emb"),
    (r"^norm_in\.", "first_layer.0."),
    (r"^norm_blocks\.", "norm_after_transformer."),
    (r"^head_in\.", "last_layer.0."),
    (r"^norm_head\.", "last_layer.2."),
    (r"^head\.", "prediction_layer."),
    (r"^blocks\.", "transformer.layers."),
    (r"\.qkv\.", ".0.mha.in_proj_"),
    (r"\.out\.", ".0.mha.out_proj."),
    (r"\.norm1\.", ".0.norm."),
    (r"\.mlp_in\.", ".1.net.0."),
    (r"\.mlp_out\.", ".1.net.2."),
    (r"\.norm2\.", ".1.norm."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return (replace_patterns(ours, _TO_OFFICIAL),)
