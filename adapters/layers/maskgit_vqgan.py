"""The network of MaskGIT's VQGAN: encoder, codebook and decoder, without attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from .autoencoder import group_norm
from .checkpoint import replace_patterns
from .config import from_upstream
from .quantize import Codebook

TRAINING_ONLY = ("class", "dropout", "resolution", "commitment_cost", "embedding_dim")
"""Official hyper-parameters without effect on a trained network; codes are always `z_channels` wide."""

_TO_OFFICIAL = (
    (r"\.blocks\.", ".block."),
    (r"\.middle\.", ".mid."),
    (r"\.shortcut\.", ".nin_shortcut."),
    (r"\.enlarge\.", ".upsample_conv."),
    (r"coder\.stem\.", "coder.conv_in."),
    (r"coder\.norm\.", "coder.norm_out."),
    (r"coder\.head\.", "coder.conv_out."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    name = ours.replace("encoder.levels.", "encoder.down.").replace("decoder.levels.", "decoder.up.")
    return (replace_patterns(name, _TO_OFFICIAL),)


@dataclass(frozen=True, slots=True)
class Config:
    """The hyper-parameters by upstream's names; the defaults are those of the published file."""

    channel_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_resolutions: int = 5
    hidden_channels: int = 128
    num_channels: int = 3
    num_res_blocks: int = 2
    z_channels: int = 256
    num_embeddings: int = 1024

    def __post_init__(self) -> None:
        if self.num_resolutions != len(self.channel_mult):
            raise ConfigError(
                f"num_resolutions is {self.num_resolutions}, channel_mult has {len(self.channel_mult)} numbers",
                "each resolution has one",
                "give both the same length",
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, fine to coarse."""
        return tuple(self.hidden_channels * m for m in self.channel_mult)


class ResBlock(nn.Module):
    """Two normalised 3x3 convolutions and a skip; where the width changes, a 1x1 convolution of the RESULT is the skip.

    That is how the weights were trained: nothing of the input passes by the convolutions there.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm2 = group_norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(outputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = h + (x if self.shortcut is None else self.shortcut(h))
        return out


def res_blocks(inputs: int, outputs: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(ResBlock(inputs if i == 0 else outputs, outputs) for i in range(count))


class Level(nn.Module):
    """The blocks at one resolution; with `enlarge` then twice the size, nearest neighbour and a convolution."""

    def __init__(self, inputs: int, outputs: int, count: int, *, enlarge: bool = False) -> None:
        super().__init__()
        self.blocks = res_blocks(inputs, outputs, count)
        self.enlarge = nn.Conv2d(outputs, outputs, 3, padding=1) if enlarge else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        if self.enlarge is not None:
            x = self.enlarge(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class Encoder(nn.Module):
    """(B, z_channels, H/f, W/f) of images (B, 3, H, W) in [0, 1], f = 2 ** (levels - 1)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths, count = config.widths, config.num_res_blocks
        self.stem = nn.Conv2d(config.num_channels, config.hidden_channels, 3, padding=1, bias=False)
        befores = (config.hidden_channels, *widths)
        self.levels = nn.ModuleList(Level(before, here, count) for before, here in zip(befores, widths, strict=False))
        self.middle = res_blocks(widths[-1], widths[-1], count)
        self.norm = group_norm(widths[-1])
        self.head = nn.Conv2d(widths[-1], config.z_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for index, level in enumerate(self.levels):
            x = level(F.avg_pool2d(x, 2) if index else x)
        for block in self.middle:
            x = block(x)
        features: Tensor = self.head(F.silu(self.norm(x)))
        return features


class Decoder(nn.Module):
    """Images (B, 3, H, W), about [0, 1] but not clamped, of features (B, z_channels, H/f, W/f).

    The levels are held fine to coarse, as in the official file, and run the other way.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths, count = config.widths, config.num_res_blocks
        self.stem = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.middle = res_blocks(widths[-1], widths[-1], count)
        befores = (*widths[1:], widths[-1])
        self.levels = nn.ModuleList(
            Level(before, here, count, enlarge=index > 0)
            for index, (before, here) in enumerate(zip(befores, widths, strict=True))
        )
        self.norm = group_norm(widths[0])
        self.head = nn.Conv2d(widths[0], config.num_channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        x = self.stem(features)
        for block in (*self.middle, *reversed(self.levels)):
            x = block(x)
        images: Tensor = self.head(F.silu(self.norm(x)))
        return images


class Network(nn.Module):
    """Encoder, codebook (Euclidean) and decoder; images in [0, 1], the output not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = from_upstream(Config, config, TRAINING_ONLY)
        self.factor = 2 ** (c.num_resolutions - 1)
        self.encoder = Encoder(c)
        self.decoder = Decoder(c)
        self.quantize = Codebook(c.num_embeddings, c.z_channels)

    def encode(self, images: Tensor) -> Tensor:
        """(B, H/f * W/f) ids, row-major."""
        features = self.encoder(images).flatten(2).transpose(1, 2)  # (B, L, C)
        return self.quantize.nearest(features.float())

    def decode(self, ids: Tensor) -> Tensor:
        """Images from a square grid of ids (B, n * n)."""
        side = math.isqrt(ids.shape[1])
        codes = self.quantize.lookup(ids)  # (B, n * n, C)
        grid = codes.transpose(1, 2).reshape(len(ids), -1, side, side)
        images: Tensor = self.decoder(grid.to(self.decoder.stem.weight.dtype))
        return images
