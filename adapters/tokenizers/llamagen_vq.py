"""The VQ tokenizer of LlamaGen: one grid of codes on the unit sphere (Sun et al., 2024)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from ..layers.autoencoder import Decoder, Encoder
from ..layers.checkpoint import bring_up, compile_blocks, substituted, with_state
from ..layers.config import from_upstream
from ..layers.quantize import Codebook
from ..layers.tokenizer import NetworkTokenizer, check_grid, check_multiple, from_signed, to_signed

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
    name = substituted(name, _TO_OFFICIAL)
    return tuple(name.replace(".qkv.", f".{part}.") for part in "qkv") if ".qkv." in name else (name,)


@dataclass(frozen=True, slots=True)
class VQConfig:
    """Upstream's `VQModel`, with its defaults; `num_res_blocks` is always 2 there."""

    ch: int = 128
    codebook_size: int = 16384
    codebook_embed_dim: int = 8
    codebook_l2_norm: bool = True
    encoder_ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    decoder_ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    z_channels: int = 256
    num_res_blocks: int = 2


class VQNetwork(nn.Module):
    """Encoder, codebook and decoder; images in [-1, 1], the output not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = from_upstream(VQConfig, config, TRAINING_ONLY)
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


class LlamaGenVQ(NetworkTokenizer):
    """`Tokenizer` of LlamaGen. Images of any square size divisible by the factor are taken: n / f tokens a side."""

    network: VQNetwork

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        network = bring_up(lambda: VQNetwork(card.config), card, spec, names=official_names, ignored=IGNORED)
        network.quantize.float()  # distances in half precision would change ids
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        check_multiple(self.card, images, self.network.factor, square=True)
        return Codes(ids=(self.network.encode(to_signed(images, self.dtype)),))

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            (ids,) = codes.ids
            check_grid(self.card, ids)
            return from_signed(self.network.decode(ids))


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    network = with_state(
        lambda: VQNetwork(config), state, card_name="LlamaGen's VQModel", names=official_names, ignored=IGNORED
    )

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "encode":
            return {"ids": network.encode(inputs["images"])}
        if probe == "decode":
            return {"images": network.decode(inputs["ids"])}
        raise InputError(f"no probe {probe!r} for a LlamaGen tokenizer", "known: encode, decode", "")

    return call
