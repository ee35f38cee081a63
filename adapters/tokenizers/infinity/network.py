"""The network of Infinity's tokenizer: a convolutional autoencoder around residual scales of signs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.autoencoder import Decoder, Encoder, compvis_names
from ...layers.checkpoint import OfficialNames
from ...layers.config import from_upstream

IGNORED = (r"quantizer?\.lfq\.(mask|codebook|zero|scales)", r"quantizer?\..*\.codebook.*")
TRAINING_ONLY = ("class", "codebook_size", "schedule_mode")

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's arguments of `AutoEncoder`; `sides` are the scales of square images, coarse to fine."""

    codebook_dim: int = 32
    base_ch: int = 128
    num_res_blocks: int = 2
    patch_size: int = 16
    encoder_ch_mult: tuple[int, ...] = (1, 2, 4, 4, 4)
    decoder_ch_mult: tuple[int, ...] = (1, 2, 4, 4, 4)
    sides: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for multipliers in (self.encoder_ch_mult, self.decoder_ch_mult):
            if 2 ** (len(multipliers) - 1) != self.patch_size:
                raise ConfigError(
                    f"{len(multipliers)} levels do not make patches of {self.patch_size}",
                    "every level but the last halves the sides",
                    "use as many multipliers as the patch size needs",
                )


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> the official key: every convolution and norm there is wrapped once more."""
    c = from_upstream(Config, config, TRAINING_ONLY)
    coders = {
        part: compvis_names(len(multipliers))
        for part, multipliers in (("encoder", c.encoder_ch_mult), ("decoder", c.decoder_ch_mult))
    }

    def name(ours: str) -> tuple[str, ...]:
        (key,) = coders[ours.partition(".")[0]](ours)
        key = re.sub(r"(norm\w*)\.(weight|bias)$", r"\1.norm.\2", key)
        return (re.sub(r"(conv\w*|nin_shortcut)\.(weight|bias)$", r"\1.conv.\2", key),)

    return name


def resized(x: Tensor, size: Size, mode: str) -> Tensor:
    return x if tuple(x.shape[-2:]) == tuple(size) else F.interpolate(x, size=size, mode=mode)


class Network(nn.Module):
    """Encoder and decoder; images in [-1, 1], the output not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = from_upstream(Config, config, TRAINING_ONLY)
        self.arguments = c
        self.encoder = Encoder(c.base_ch, c.encoder_ch_mult, c.num_res_blocks, c.codebook_dim, attention=())
        self.decoder = Decoder(c.base_ch, c.decoder_ch_mult, c.num_res_blocks, c.codebook_dim, attention=())
        self.encoder.middle[1] = self.decoder.middle[1] = nn.Identity()  # no attention

    def codes(self, bits: Tensor, size: Size) -> Tensor:
        """(B, d, h, w) unit codes of bits (B, h * w, d)."""
        signs = (2.0 * bits - 1) / self.arguments.codebook_dim**0.5
        return signs.mT.unflatten(-1, size)

    def encode(self, images: Tensor, sizes: Sequence[Size]) -> tuple[list[Tensor], Tensor]:
        """Bits (B, h * w, d) of every scale, and the sum (B, d, H, W) of what they stand for."""
        rest = self.encoder(images).float()
        total, levels = torch.zeros_like(rest), []
        for size in sizes:
            bits = (resized(rest, size, "area") > 0).long().flatten(2).mT
            added = resized(self.codes(bits, size), (rest.shape[-2], rest.shape[-1]), "bilinear")
            rest, total = rest - added, total + added
            levels.append(bits)
        return levels, total

    def summed(self, levels: Sequence[Tensor], sizes: Sequence[Size], final: Size) -> Tensor:
        """(B, d, *final) what the bits of the scales of these `sizes` stand for."""
        total = torch.zeros(())
        for bits, size in zip(levels, sizes, strict=True):
            total = total.to(bits.device) + resized(self.codes(bits, size), final, "bilinear")
        return total

    def render(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents.to(self.decoder.stem.weight.dtype))
        return images
