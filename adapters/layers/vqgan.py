"""Taming's convolutional autoencoder around a quantiser, by its own hyper-parameters: VQGAN, IBQ and RQ-VAE share it.

After Esser et al., "Taming transformers for high-resolution image synthesis" (CVPR 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from .autoencoder import Decoder, Encoder, compvis_names
from .checkpoint import OfficialNames, replace_all
from .config import from_upstream
from .quantize import Codebook


@dataclass(frozen=True, slots=True)
class Coder:
    """Upstream's `ddconfig`. `attn_resolutions` are sides of feature maps for images of side `resolution`."""

    z_channels: int = 256
    resolution: int = 256
    in_channels: int = 3
    out_ch: int = 3
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    attn_resolutions: tuple[int, ...] = (16,)
    double_z: bool = False

    @property
    def factor(self) -> int:
        """Pixels to a token, along a side."""
        return int(2 ** (len(self.ch_mult) - 1))

    @property
    def sites(self) -> list[int]:
        """Levels with attention, counted from full resolution."""
        return [i for i in range(len(self.ch_mult)) if self.resolution // 2**i in self.attn_resolutions]

    def encoder(self) -> Encoder:
        outputs = (2 if self.double_z else 1) * self.z_channels
        return Encoder(
            self.ch, self.ch_mult, self.num_res_blocks, outputs, images=self.in_channels, attention=self.sites
        )

    def decoder(self) -> Decoder:
        return Decoder(
            self.ch, self.ch_mult, self.num_res_blocks, self.z_channels, images=self.out_ch, attention=self.sites
        )


def coder_of(config: Mapping[str, Any]) -> Coder:
    """The `ddconfig` of a configuration. Raises ConfigError for a name that is not understood."""
    return from_upstream(Coder, config.get("ddconfig", {}), ("dropout",))


def vqgan_names(config: Mapping[str, Any], rest: Callable[[str], str] = str) -> OfficialNames:
    """One of our parameter names -> the official keys, for a network of this `config`; `rest` renames the quantiser."""
    coder = compvis_names(len(coder_of(config).ch_mult))
    return lambda ours: coder(ours) if ours.startswith(("encoder.", "decoder.")) else (rest(ours),)


class VQGAN(nn.Module):
    """Encoder and decoder with their 1x1 convolutions; images in [-1, 1], the output not clamped."""

    def __init__(self, coder: Coder, channels: int) -> None:
        super().__init__()
        self.factor = coder.factor
        self.encoder = coder.encoder()
        self.decoder = coder.decoder()
        self.quant_conv = nn.Conv2d((2 if coder.double_z else 1) * coder.z_channels, channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, coder.z_channels, 1)

    def features(self, images: Tensor) -> Tensor:
        """(B, H/f * W/f, C) float32 before quantisation."""
        features: Tensor = self.quant_conv(self.encoder(images))
        return features.float().flatten(2).transpose(1, 2)

    def render(self, codes: Tensor) -> Tensor:
        """Images from a square grid of codes (B, n * n, C)."""
        side = math.isqrt(codes.shape[1])
        grid = codes.transpose(1, 2).reshape(len(codes), -1, side, side)
        images: Tensor = self.decoder(self.post_quant_conv(grid.to(self.post_quant_conv.weight.dtype)))
        return images


IGNORED = (r"loss\..*",)
"""Official keys of the discriminator and the perceptual network that trained it."""

TRAINING_ONLY = (
    "class",
    "ddconfig",
    "lossconfig",
    "ckpt_path",
    "ignore_keys",
    "image_key",
    "colorize_nlabels",
    "monitor",
    "remap",
    "sane_index_shape",
    "temperature_scheduler_config",
    "kl_weight",
    "beta",
    "cosine_similarity",
    "entropy_temperature",
    "sample_minimization_weight",
    "batch_maximization_weight",
    "use_entropy_loss",
    "use_ema",
    "stage",
)
"""Official hyper-parameters without effect on a trained network, or that are read on their own."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's arguments beside `ddconfig`."""

    embed_dim: int = 256
    n_embed: int = 1024


class Nearest(nn.Module):
    """The code at the smallest distance."""

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.table = Codebook(codes, channels)

    def nearest(self, features: Tensor) -> Tensor:
        return self.table.nearest(features)

    def lookup(self, ids: Tensor) -> Tensor:
        return self.table.lookup(ids)


class Product(Nearest):
    """The code with the largest dot product, neither distance nor cosine (IBQ)."""

    def nearest(self, features: Tensor) -> Tensor:
        codes = self.table.codes
        return torch.cat([(part @ codes.T).argmax(-1) for part in features.split(1)])


class Likeliest(nn.Module):
    """The code with the largest logit, where upstream adds Gumbel noise and draws."""

    def __init__(self, codes: int, channels: int, width: int) -> None:
        super().__init__()
        self.logits = nn.Conv2d(width, codes, 1)
        self.codes = nn.Embedding(codes, channels)

    def nearest(self, features: Tensor) -> Tensor:
        """(...) int64 for features (..., C)."""
        logits = F.linear(features, self.logits.weight.flatten(1), self.logits.bias)
        return logits.argmax(-1)

    def lookup(self, ids: Tensor) -> Tensor:
        codes: Tensor = self.codes(ids)
        return codes


KINDS: dict[str, Callable[[Config, Coder], nn.Module]] = {
    "VQModel": lambda config, coder: Nearest(config.n_embed, config.embed_dim),
    "IBQ": lambda config, coder: Product(config.n_embed, config.embed_dim),
    "GumbelVQ": lambda config, coder: Likeliest(config.n_embed, config.embed_dim, coder.z_channels),
}


class Network(VQGAN):
    """Encoder, codebook and decoder; `class` of the configuration says which quantiser it is."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        kind = config.get("class", "VQModel")
        if kind not in KINDS:
            raise ConfigError(f"no VQGAN of class {kind!r}", f"known: {', '.join(KINDS)}", "use upstream's name")
        coder, c = coder_of(config), from_upstream(Config, config, TRAINING_ONLY)
        super().__init__(coder, c.embed_dim)
        self.quantize = KINDS[kind](c, coder)

    def encode(self, images: Tensor) -> Tensor:
        """(B, H/f * W/f) ids, row-major."""
        ids: Tensor = self.quantize.nearest(self.features(images))
        return ids

    def decode(self, ids: Tensor) -> Tensor:
        """Images from a square grid of ids (B, n * n)."""
        return self.render(self.quantize.lookup(ids))


_QUANTIZER = (
    ("quantize.table.", "quantize."),
    ("quantize.logits.", "quantize.proj."),
    ("quantize.codes.", "quantize.embed."),
)


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> the official keys, for a network of this `config`."""
    return vqgan_names(config, lambda ours: replace_all(ours, _QUANTIZER))
