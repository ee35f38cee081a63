"""The autoencoder with a multi-scale residual quantiser of VAR (Tian et al., NeurIPS 2024), which HART builds on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from arbench.errors import ImageError, InputError
from arbench.protocols import Codes

from .autoencoder import Decoder, Encoder, compvis_names
from .checkpoint import OfficialNames
from .config import from_upstream
from .quantize import MultiScaleQuantizer
from .tokenizer import NetworkTokenizer, check_range, from_signed

TRAINING_ONLY = ("class", "dropout", "beta", "test_mode")
"""Official hyper-parameters without effect on a trained network."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `VQVAE`, with its defaults; `ch_mult` and `num_res_blocks` are fixed there."""

    vocab_size: int = 4096
    z_channels: int = 32
    ch: int = 128
    using_znorm: bool = False
    quant_conv_ks: int = 3
    quant_resi: float = 0.5
    share_quant_resi: int = 4
    default_qresi_counts: int = 0
    v_patch_nums: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> the official key, for a network of this `config`.

    The name of the residual convolutions follows how they are shared.
    """
    c = from_upstream(Config, config, TRAINING_ONLY)
    coders = compvis_names(len(c.ch_mult), fused=True)
    phis = {0: r"quantize.quant_resi.\1.", 1: "quantize.quant_resi.qresi."}.get(
        c.share_quant_resi, r"quantize.quant_resi.qresi_ls.\1."
    )

    def name(ours: str) -> tuple[str, ...]:
        (name,) = coders(ours)
        return (re.sub(r"^quantize\.phis\.(\d+)\.", phis, name).replace("quantize.codebook.", "quantize."),)

    return name


class Network(nn.Module):
    """Encoder, multi-scale quantiser and decoder; images in [-1, 1]."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = from_upstream(Config, config, TRAINING_ONLY)
        kernel = c.quant_conv_ks
        self.factor = 2 ** (len(c.ch_mult) - 1)
        self.encoder = Encoder(c.ch, c.ch_mult, c.num_res_blocks, c.z_channels)
        self.quant_conv = nn.Conv2d(c.z_channels, c.z_channels, kernel, padding=kernel // 2)
        self.quantize = MultiScaleQuantizer(
            c.v_patch_nums,
            c.vocab_size,
            c.z_channels,
            phis=c.share_quant_resi or c.default_qresi_counts or len(c.v_patch_nums),
            ratio=c.quant_resi,
            unit="match" if c.using_znorm else "none",
        )
        self.post_quant_conv = nn.Conv2d(c.z_channels, c.z_channels, kernel, padding=kernel // 2)
        self.decoder = Decoder(c.ch, c.ch_mult, c.num_res_blocks, c.z_channels)

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H/f, W/f) before quantisation."""
        features: Tensor = self.quant_conv(self.encoder(images))
        return features

    def encode(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Ids of every scale (B, h * w) and `f_hat` (B, C, H/f, W/f)."""
        return self.quantize.encode(self.features(images).float())

    def render(self, f_hat: Tensor) -> Tensor:
        """Images in [-1, 1], clamped, from `f_hat`."""
        images: Tensor = self.decoder(self.post_quant_conv(f_hat.to(self.post_quant_conv.weight.dtype)))
        return images.clamp(-1, 1)


class MultiScaleTokenizer(NetworkTokenizer):
    """A tokenizer with this network: its quantiser, `decode_prefix`, and checks of what it is given."""

    network: Network

    @property
    def quantizer(self) -> MultiScaleQuantizer:
        """For generators: `accumulate`, `contribution`, `next_input`, `teacher_forcing`, `f_hat`."""
        return self.network.quantize

    @torch.inference_mode()
    def codewords(self) -> Tensor:
        """(V, C) float32: the vector of each id, before the convolution of its scale."""
        return self.quantizer.codebook.codes.float()

    @torch.inference_mode()
    def decode_prefix(self, codes: Codes, count: int) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] from the first `count` scales, 1 to K."""
        return from_signed(self.network.render(self.f_hat(codes.ids, count)))

    def f_hat(self, levels: Sequence[Tensor], count: int) -> Tensor:
        """The feature map (B, C, H, W) of the first `count` scales."""
        self.check_levels(levels, count)
        return self.quantizer.f_hat(levels[:count])

    def check_levels(self, levels: Sequence[Tensor], count: int) -> None:
        """Raise InputError unless the first `count` of the ids are those of so many scales."""
        if not 1 <= count <= len(levels):
            raise InputError(
                f"{self.card.name} cannot decode {count} scales",
                f"the codes have {len(levels)}",
                "ask for 1 to that many",
            )
        for ids, side in zip(levels[:count], self.quantizer.sides, strict=False):
            if ids.shape[1] != side * side:
                raise InputError(
                    f"{self.card.name} cannot decode a scale of {ids.shape[1]} tokens",
                    f"its scales have {', '.join(str(side * side) for side in self.quantizer.sides)}",
                    "pass one (B, n * n) tensor of ids for each scale",
                )

    def check_size(self, images: Tensor) -> None:
        """Raise ImageError unless the images (B, 3, H, W) are in range and as large as the scales need."""
        check_range(self.card, images)
        side = self.network.quantize.sides[-1] * self.network.factor
        if tuple(images.shape[-2:]) != (side, side):
            raise ImageError(
                f"{self.card.name} cannot encode {images.shape[-2]} x {images.shape[-1]} images",
                f"its scales are made for {side} x {side}",
                f"resize to {side} x {side}",
            )


def split(ids: Tensor, sides: Sequence[int]) -> tuple[Tensor, ...]:
    """Ids (B, L) of all scales concatenated, one (B, side * side) each."""
    return torch.split(ids, [side * side for side in sides], dim=1)
