"""GigaTok's transformers, which write a map to tokens, in a row or in a grid, and read it back."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.attention import attend
from ...layers.linear import Linear
from .config import Config


class Attention(nn.Module):
    """Attention of given queries, keys and values."""

    def __init__(self, width: int, heads: int, *, normed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.query_norm = nn.LayerNorm(width // heads) if normed else nn.Identity()
        self.key_norm = nn.LayerNorm(width // heads) if normed else nn.Identity()

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights, biases = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        parts = [
            F.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        ]
        mixed: Tensor = self.out(attend(self.query_norm(parts[0]), self.key_norm(parts[1]), parts[2]))
        return mixed


class Block(nn.Module):
    """Attention among what is written, then to what is read, and an MLP; `alone`: without the second.

    Places enter queries and keys only.
    """

    def __init__(self, width: int, heads: int, *, normed: bool = False, alone: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, normed=normed)
        self.reading = None if alone else Attention(width, heads, normed=normed)
        self.norm3 = None if alone else nn.LayerNorm(width)
        self.mlp_in, self.mlp_out = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(
        self, x: Tensor, places: Tensor | None, read: Tensor | None = None, read_places: Tensor | None = None
    ) -> Tensor:
        """Without `read` the second attention is to `x` itself, normalised."""
        normed = self.norm1(x)
        placed = normed if places is None else normed + places
        x = x + self.attention(placed, placed, normed)
        normed = self.norm2(x)
        if self.reading is not None and self.norm3 is not None:
            placed = normed if places is None else normed + places
            if read is None:
                x = x + self.reading(placed, placed, normed)
            else:
                x = x + self.reading(placed, read if read_places is None else read + read_places, read)
            normed = self.norm3(x)
        out: Tensor = x + self.mlp_out(F.gelu(self.mlp_in(normed)))
        return out


class Side(nn.Module):
    """What all four transformers share: a way in, the blocks, a way out."""

    def __init__(self, config: Config, size: str | None, *, kernel: int, alone: bool = False) -> None:
        super().__init__()
        width, layers, heads = config.shape(size)
        self.width, self.side = width, config.side
        self.norm_in, self.embed = nn.LayerNorm(config.z_channels), Linear(config.z_channels, width)
        self.places = nn.Parameter(width**-0.5 * torch.randn(config.side**2, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, normed=config.use_qk_norm, alone=alone) for _ in range(layers))
        self.norm_out = nn.LayerNorm(width)
        self.head = nn.Conv2d(width, config.z_channels, kernel, padding=kernel // 2)

    def enter(self, features: Tensor) -> Tensor:
        """(B, n, width) of a map (B, C, h, w)."""
        x: Tensor = self.embed(self.norm_in(features.flatten(2).transpose(1, 2)))
        return x

    def leave(self, x: Tensor, shape: tuple[int, int]) -> Tensor:
        """(B, C, h, w) of (B, h * w, width)."""
        features: Tensor = self.head(self.norm_out(x).transpose(1, 2).unflatten(2, shape))
        return features


def pooled(x: Tensor, levels: int) -> Tensor:
    """(B, 2^levels, C): averages of a map (B, C, H, W) over the whole, over halves, quarters, ..., coarse to fine."""
    parts = []
    for index in range(levels + 1):
        level = max(index - 1, 0)
        size = (x.shape[2] // 2 ** (level // 2), x.shape[3] // 2 ** ((level + 1) // 2))
        parts.append(F.avg_pool2d(x, size).flatten(2).transpose(1, 2))
    return torch.cat(parts, dim=1)


def spread(x: Tensor, level: int, side: int) -> Tensor:
    """(B, C, side, side) of the tokens (B, 2^level, C) of one level, each over its part of the map."""
    grid = x.transpose(1, 2).unflatten(2, (2 ** (level // 2), 2 ** ((level + 1) // 2)))
    return F.interpolate(grid, size=(side, side), mode="nearest")


class Writer(Side):
    """Tokens in a row (B, C, 1, K) of a map (B, C, h, w)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, config.encoder_size, kernel=1)
        count, scale = config.num_latent_tokens, self.width**-0.5
        self.count, self.levels = count, round(math.log2(count)) if config.multi_level_query_init else None
        self.token_places = nn.Parameter(scale * torch.randn(count, 1, self.width))
        self.queries, self.summary = None, None
        if config.learnable_1d_query_init:
            self.queries = nn.Parameter(scale * torch.randn(count, 1, self.width))
        else:
            self.summary = Linear(self.width, self.width)

    def forward(self, features: Tensor) -> Tensor:
        read = self.enter(features)
        if self.queries is not None:
            x = self.queries.squeeze(1).expand(len(read), -1, -1)
        elif self.levels is not None and self.summary is not None:
            x = self.summary(pooled(read.transpose(1, 2).unflatten(2, (self.side, self.side)), self.levels))
        else:
            assert self.summary is not None
            x = self.summary(read.mean(1, keepdim=True)).expand(-1, self.count, -1)
        for block in self.blocks:
            x = block(x, self.token_places.squeeze(1), read, self.places.squeeze(1))
        return self.leave(x, (1, self.count))


class Reader(Side):
    """A map (B, C, h, w) of tokens in a row (B, C, 1, K)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, config.decoder_size, kernel=3)
        self.config = config
        count, scale = config.num_latent_tokens, self.width**-0.5
        self.token_places = nn.Parameter(scale * torch.randn(count, 1, self.width))
        self.queries = None
        if config.learnable_2d_query_init:
            self.queries = nn.Parameter(scale * torch.randn(config.side**2, 1, self.width))

    def forward(self, tokens: Tensor) -> Tensor:
        read = self.enter(tokens)
        levels, side = round(math.log2(read.shape[1])), self.side
        if self.config.last_level_2d_query_init:
            last = read[:, -(2 ** (levels - 1)) :] if levels > 1 else read[:, :2].mean(1, keepdim=True)
            x = spread(last, levels - 1, side).flatten(2).transpose(1, 2)
        elif self.config.multi_level_2d_query_init:
            # upstream takes the first tokens for every level
            maps = [spread(read[:, :2].mean(1, keepdim=True), 0, side)]
            maps += [spread(read[:, : 2**level], level, side) for level in range(1, levels)]
            x = (torch.stack(maps).sum(0) / levels).flatten(2).transpose(1, 2)
        elif self.queries is not None:
            x = self.queries.squeeze(1).expand(len(read), -1, -1)
        else:
            x = read[:, :1].expand(-1, side * side, -1)
        token_places = self.token_places.squeeze(1)[: read.shape[1]]
        for block in self.blocks:
            x = block(x, self.places.squeeze(1), read, token_places)
        return self.leave(x, (side, side))


class Grid(Side):
    """A map (B, C, h, w) of another, tokens staying where they are."""

    def __init__(self, config: Config, size: str | None, kernel: int) -> None:
        self.kind = config.transformer_layer_type
        super().__init__(config, size, kernel=kernel, alone=self.kind == "TransformerLayer")

    def forward(self, features: Tensor) -> Tensor:
        x, places = self.enter(features), self.places.squeeze(1)
        if self.kind == "TransformerLayer":
            x = x + places
        for block in self.blocks:
            if self.kind == "TransformerLayer":
                x = block(x, None)
            else:
                itself = (x, places) if self.kind == "TransformerDecoderLayer" else ()
                x = block(x, places, *itself)
        return self.leave(x, (self.side, self.side))
