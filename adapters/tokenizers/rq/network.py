"""RQ-VAE's network: taming's autoencoder around several codes at each place, each of what the ones before left over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...layers.checkpoint import OfficialNames, replace_all
from ...layers.config import from_upstream
from ...layers.quantize import Codebook
from ...layers.vqgan import VQGAN, coder_of, vqgan_names

IGNORED = (r"quantizer\.codebooks\.\d+\..*", r"loss\..*")
"""Official keys of moving averages, and of a shared codebook once more for each depth."""

TRAINING_ONLY = (
    "class",
    "ddconfig",
    "bottleneck_type",
    "checkpointing",
    "decay",
    "latent_loss_weight",
    "loss_type",
    "restart_unused_codes",
)
"""Official hyper-parameters without effect on a trained network, or that are read on their own."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's arguments beside `ddconfig`. Shapes are (rows, columns, channels or depth)."""

    embed_dim: int = 256
    n_embed: int | tuple[int, ...] = 16384
    latent_shape: tuple[int, int, int] = (8, 8, 256)
    code_shape: tuple[int, int, int] = (8, 8, 4)
    shared_codebook: bool = True

    @property
    def depth(self) -> int:
        """Codes at each place."""
        return self.code_shape[2]

    @property
    def codes(self) -> tuple[int, ...]:
        """Of each depth."""
        return self.n_embed if isinstance(self.n_embed, tuple) else (self.n_embed,) * self.depth

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of features that one place of codes stands for."""
        return self.latent_shape[0] // self.code_shape[0], self.latent_shape[1] // self.code_shape[1]


class PaddedCodebook(Codebook):
    """A codebook whose last row is padding, which is never chosen."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__(size + 1, channels)

    @property
    def codes(self) -> Tensor:
        return self.embedding.weight[:-1]


class ResidualQuantizer(nn.Module):
    """`depth` codes for each row of features, from one shared codebook or one each."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        channels = math.prod(config.block) * config.latent_shape[2]
        sizes = config.codes[:1] if config.shared_codebook else config.codes
        self.depth = config.depth
        self.codebooks = nn.ModuleList(PaddedCodebook(size, channels) for size in sizes)

    def codebook(self, depth: int) -> PaddedCodebook:
        book = self.codebooks[depth if len(self.codebooks) > 1 else 0]
        assert isinstance(book, PaddedCodebook)
        return book

    def nearest(self, features: Tensor) -> Tensor:
        """(..., depth) int64 for features (..., C)."""
        ids = []
        for depth in range(self.depth):
            book = self.codebook(depth)
            ids.append(book.nearest(features))
            features = features - book.lookup(ids[-1])
        return torch.stack(ids, dim=-1)

    def lookup(self, ids: Tensor) -> Tensor:
        """(..., n, C) codes of each depth of ids (..., n), n the first depths."""
        return torch.stack([self.codebook(d).lookup(ids[..., d]) for d in range(ids.shape[-1])], dim=-2)


class Network(VQGAN):
    """Encoder, residual codes and decoder; images in [-1, 1], the output not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        coder, c = coder_of(config), from_upstream(Config, config, TRAINING_ONLY)
        super().__init__(coder, c.embed_dim)
        self.sizes = c
        self.factor = coder.factor * c.block[0]
        self.quantize = ResidualQuantizer(c)

    def encode(self, images: Tensor) -> Tensor:
        """(B, h * w * depth) ids, row-major, depth fastest."""
        rows, columns = self.sizes.block
        features = self.quant_conv(self.encoder(images)).float()  # (B, C, H, W)
        blocks = features.unflatten(3, (-1, columns)).unflatten(2, (-1, rows))  # (B, C, h, r, w, s)
        places = blocks.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (B, h * w, r * s * C)
        return self.quantize.nearest(places).flatten(1)

    def decode(self, ids: Tensor, depths: int | None = None) -> Tensor:
        """Images from ids (B, n * depth) of `code_shape` or of a square; of the first `depths` alone if given."""
        rows, columns = self.sizes.block
        codes = self.quantize.lookup(ids.unflatten(1, (-1, self.sizes.depth))[..., :depths]).sum(-2)
        height, width, _ = self.sizes.code_shape
        if height * width != codes.shape[1]:
            height = width = math.isqrt(codes.shape[1])
        blocks = codes.unflatten(-1, (rows, columns, -1)).unflatten(1, (height, width))  # (B, h, w, r, s, C)
        grid = blocks.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)  # (B, C, H, W)
        images: Tensor = self.decoder(self.post_quant_conv(grid.to(self.post_quant_conv.weight.dtype)))
        return images


_QUANTIZER = (("quantize.codebooks.", "quantizer.codebooks."), (".embedding.weight", ".weight"))


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> the official keys, for a network of this `config`."""
    return vqgan_names(config, lambda ours: replace_all(ours, _QUANTIZER))
