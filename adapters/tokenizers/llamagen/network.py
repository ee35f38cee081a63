"""The network of LlamaGen's VQ tokenizer: encoder, codebook and decoder."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...layers.autoencoder import Decoder, Encoder
from ...layers.checkpoint import replace_patterns
from ...layers.config import from_upstream
from ...layers.quantize import Codebook

IGNORED = (r"quantize\.codebook_used",)
"""Official keys that are only usage counters."""

TRAINING_ONLY = ("class", "codebook_show_usage", "commit_loss_beta", "entropy_loss_ratio", "dropout_p")
"""Official hyper-parameters without effect on a trained network."""

_TO_OFFICIAL = (
    (r"\.levels\.(\d+)\.blocks\.", r".conv_blocks.\1.res."),
    (r"\.levels\.(\d+)\.attention\.", r".conv_blocks.\1.attn."),
    (r"\.middle\.", ".mid."),
    (r"\.skip\.", ".nin_shortcut."),
    (r"\.out\.(weight|bias)$", r".proj_out.\1"),
    (r"\.stem\.", ".conv_in."),
    (r"coder\.norm\.", "coder.norm_out."),
    (r"\.head\.", ".conv_out."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters; a fused `qkv` is three official tensors."""
    resample = "downsample" if ours.startswith("encoder.") else "upsample"
    name = re.sub(r"\.levels\.(\d+)\.resample\.", rf".conv_blocks.\1.{resample}.", ours)
    name = replace_patterns(name, _TO_OFFICIAL)
    return tuple(name.replace(".qkv.", f".{part}.") for part in "qkv") if ".qkv." in name else (name,)


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `VQModel`, with its defaults; `num_res_blocks` is always 2 there."""

    ch: int = 128
    codebook_size: int = 16384
    codebook_embed_dim: int = 8
    codebook_l2_norm: bool = True
    encoder_ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    decoder_ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    z_channels: int = 256
    num_res_blocks: int = 2


class Network(nn.Module):
    """Encoder, codebook and decoder; images in [-1, 1], the output not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = from_upstream(Config, config, TRAINING_ONLY)
        self.factor = 2 ** (len(c.encoder_ch_mult) - 1)
        self.encoder = Encoder(c.ch, c.encoder_ch_mult, c.num_res_blocks, c.z_channels)
        self.quant_conv = nn.Conv2d(c.z_channels, c.codebook_embed_dim, 1)
        self.quantize = Codebook(c.codebook_size, c.codebook_embed_dim, "codes" if c.codebook_l2_norm else "none")
        self.post_quant_conv = nn.Conv2d(c.codebook_embed_dim, c.z_channels, 1)
        self.decoder = Decoder(c.ch, c.decoder_ch_mult, c.num_res_blocks, c.z_channels)

    def features(self, images: Tensor) -> Tensor:
        """(B, H/f * W/f, C) before quantisation."""
        features: Tensor = self.quant_conv(self.encoder(images))
        return features.flatten(2).transpose(1, 2)

    def encode(self, images: Tensor) -> Tensor:
        """(B, H/f * W/f) ids, row-major."""
        return self.quantize.nearest(self.features(images).float())

    def render(self, codes: Tensor) -> Tensor:
        """Images from a square grid of codes (B, n * n, C)."""
        side = math.isqrt(codes.shape[1])
        grid = codes.transpose(1, 2).reshape(len(codes), -1, side, side)
        images: Tensor = self.decoder(self.post_quant_conv(grid.to(self.post_quant_conv.weight.dtype)))
        return images

    def decode(self, ids: Tensor) -> Tensor:
        """Images from a square grid of ids (B, n * n)."""
        return self.render(self.quantize.lookup(ids))
