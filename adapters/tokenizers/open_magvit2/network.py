"""The network of Open-MAGVIT2's tokenizer: residual blocks, bits, and a decoder that the code map styles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.autoencoder import Style, depth_to_space, group_norm
from ...layers.checkpoint import OfficialNames, replace_patterns
from ...layers.config import from_upstream
from ...layers.quantize import SignBits
from ...layers.vqgan import Coder

IGNORED = (r"loss\..*", r"quantize\..*")
"""Official keys of the discriminator and the perceptual network that trained it, and of masks that are computed."""

TRAINING_ONLY = (
    "class",
    "ddconfig",
    "lossconfig",
    "learning_rate",
    "sample_minimization_weight",
    "batch_maximization_weight",
    "scheduler_type",
    "use_ema",
    "stage",
    "factorized_bits",
)
"""Official hyper-parameters without effect on a trained network, or that are read on their own."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's arguments beside `ddconfig`. Codes have `embed_dim` bits, as many as `z_channels`."""

    embed_dim: int = 18
    n_embed: int = 262144
    token_factorization: bool = False

    def __post_init__(self) -> None:
        if self.n_embed != 2**self.embed_dim or self.token_factorization:
            raise ConfigError(
                f"n_embed {self.n_embed}, embed_dim {self.embed_dim}, token_factorization {self.token_factorization}",
                "a code is embed_dim bits, and one id",
                "give 2 ** embed_dim codes, not factorised",
            )


class ResBlock(nn.Module):
    """Two normalised 3x3 convolutions and a skip, 1x1 where the width changes; without biases."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(inputs), group_norm(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = self.skip(x) + self.conv2(F.silu(self.norm2(h)))
        return out


def res_blocks(inputs: int, outputs: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResBlock(inputs if i == 0 else outputs, outputs) for i in range(count)))


class Level(nn.Module):
    """The blocks at one resolution, then half or twice the size."""

    def __init__(self, inputs: int, outputs: int, count: int, *, then: str) -> None:
        super().__init__()
        self.blocks = res_blocks(inputs, outputs, count)
        self.shrink = nn.Conv2d(outputs, outputs, 3, stride=2, padding=1) if then == "shrink" else None
        self.enlarge = nn.Conv2d(outputs, 4 * outputs, 3, padding=1) if then == "enlarge" else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        if self.shrink is not None:
            x = self.shrink(x)
        if self.enlarge is not None:
            x = depth_to_space(self.enlarge(x))
        return x


class Encoder(nn.Module):
    """(B, z_channels, H/f, W/f) of images (B, 3, H, W) in [-1, 1]."""

    def __init__(self, coder: Coder) -> None:
        super().__init__()
        widths, last = [coder.ch * m for m in coder.ch_mult], len(coder.ch_mult) - 1
        self.stem = nn.Conv2d(coder.in_channels, coder.ch, 3, padding=1, bias=False)
        self.levels = nn.ModuleList(
            Level(before, here, coder.num_res_blocks, then="shrink" if i < last else "")
            for i, (before, here) in enumerate(zip([coder.ch, *widths], widths, strict=False))
        )
        self.middle = res_blocks(widths[-1], widths[-1], coder.num_res_blocks)
        self.norm = group_norm(widths[-1])
        self.head = nn.Conv2d(widths[-1], coder.z_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for level in self.levels:
            x = level(x)
        features: Tensor = self.head(F.silu(self.norm(self.middle(x))))
        return features


class Decoder(nn.Module):
    """Images (B, 3, H, W), about [-1, 1] but not clamped, of codes (B, z_channels, H/f, W/f); levels coarse to fine."""

    def __init__(self, coder: Coder) -> None:
        super().__init__()
        widths, last = [coder.ch * m for m in reversed(coder.ch_mult)], len(coder.ch_mult) - 1
        befores = [widths[0], *widths[:-1]]
        self.stem = nn.Conv2d(coder.z_channels, widths[0], 3, padding=1)
        self.middle = res_blocks(widths[0], widths[0], coder.num_res_blocks)
        self.styles = nn.ModuleList(Style(coder.z_channels, before) for before in befores)
        self.levels = nn.ModuleList(
            Level(before, here, coder.num_res_blocks, then="enlarge" if i < last else "")
            for i, (before, here) in enumerate(zip(befores, widths, strict=True))
        )
        self.norm = group_norm(widths[-1])
        self.head = nn.Conv2d(widths[-1], coder.out_ch, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.middle(self.stem(codes))
        for style, level in zip(self.styles, self.levels, strict=True):
            x = level(style(x, codes))
        images: Tensor = self.head(F.silu(self.norm(x)))
        return images


def _coder(config: Mapping[str, Any]) -> Coder:
    return from_upstream(Coder, config.get("ddconfig", {}), ("dropout",))


class Network(nn.Module):
    """Encoder, bits and decoder; images in [-1, 1], the output not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c, coder = from_upstream(Config, config, TRAINING_ONLY), _coder(config)
        self.factor = coder.factor
        self.encoder, self.decoder = Encoder(coder), Decoder(coder)
        self.quantize = SignBits(c.embed_dim)

    def encode(self, images: Tensor) -> Tensor:
        """(B, H/f * W/f) ids, row-major."""
        return self.quantize.nearest(self.encoder(images).float().flatten(2).transpose(1, 2))

    def decode(self, ids: Tensor) -> Tensor:
        """Images from a square grid of ids (B, n * n)."""
        side = math.isqrt(ids.shape[1])
        grid = self.quantize.lookup(ids).transpose(1, 2).reshape(len(ids), -1, side, side)
        images: Tensor = self.decoder(grid.to(self.decoder.stem.weight.dtype))
        return images


_TO_OFFICIAL = (
    (r"\.blocks\.", ".block."),
    (r"\.middle\.", ".mid_block."),
    (r"\.skip\.", ".nin_shortcut."),
    (r"\.shrink\.", ".downsample."),
    (r"\.enlarge\.", ".upsample.conv1."),
    (r"coder\.stem\.", "coder.conv_in."),
    (r"coder\.norm\.", "coder.norm_out."),
    (r"coder\.head\.", "coder.conv_out."),
    (r"\.scale\.", ".gamma."),
    (r"\.shift\.", ".beta."),
    (r"^encoder\.levels\.", "encoder.down."),
    (r"^decoder\.levels\.", "decoder.up."),
    (r"^decoder\.styles\.", "decoder.adaptive."),
)


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> the official keys; there the decoder counts its levels fine to coarse."""
    last = len(_coder(config).ch_mult) - 1

    def name(ours: str) -> tuple[str, ...]:
        for part in ("decoder.levels.", "decoder.styles."):
            if ours.startswith(part):
                level, _, rest = ours.removeprefix(part).partition(".")
                ours = f"{part}{last - int(level)}.{rest}"
        return (replace_patterns(ours, _TO_OFFICIAL),)

    return name
