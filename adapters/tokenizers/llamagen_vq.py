"""The VQ tokenizer of LlamaGen: one grid of codes on the unit sphere (Sun et al., 2024)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from arbench.errors import ImageError, InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe, TokenSpec

from ..layers.autoencoder import Decoder, Encoder
from ..layers.checkpoint import bring_up, load_strict, uninitialised
from ..layers.quantize import Codebook

IGNORED = (r"quantize\.codebook_used",)
"""Official keys that are only usage counters."""

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
    for pattern, replacement in _TO_OFFICIAL:
        name = re.sub(pattern, replacement, name)
    return tuple(name.replace(".qkv.", f".{part}.") for part in "qkv") if ".qkv." in name else (name,)


class VQNetwork(nn.Module):
    """Encoder, codebook and decoder; images in [-1, 1], the output not clamped. `config` is upstream's `VQModel`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, latent = config.get("ch", 128), config.get("z_channels", 256)
        blocks, channels = config.get("num_res_blocks", 2), config.get("codebook_embed_dim", 8)
        down, up = config.get("encoder_ch_mult", (1, 1, 2, 2, 4)), config.get("decoder_ch_mult", (1, 1, 2, 2, 4))
        self.factor = 2 ** (len(down) - 1)
        self.encoder = Encoder(width, down, blocks, latent)
        self.quant_conv = nn.Conv2d(latent, channels, 1)
        self.quantize = Codebook(
            config.get("codebook_size", 16384), channels, "codes" if config.get("codebook_l2_norm", True) else "none"
        )
        self.post_quant_conv = nn.Conv2d(channels, latent, 1)
        self.decoder = Decoder(width, up, blocks, latent)

    def features(self, images: Tensor) -> Tensor:
        """(B, H/f * W/f, C) before quantisation."""
        return self.quant_conv(self.encoder(images)).flatten(2).transpose(1, 2)

    def encode(self, images: Tensor) -> Tensor:
        """(B, H/f * W/f) ids, row-major."""
        return self.quantize.nearest(self.features(images).float())

    def render(self, codes: Tensor) -> Tensor:
        """Images from a square grid of codes (B, n * n, C)."""
        side = math.isqrt(codes.shape[1])
        grid = codes.transpose(1, 2).unflatten(2, (side, side))
        return self.decoder(self.post_quant_conv(grid.to(self.post_quant_conv.weight.dtype)))

    def decode(self, ids: Tensor) -> Tensor:
        """Images from a square grid of ids (B, n * n)."""
        return self.render(self.quantize.lookup(ids))


class LlamaGenVQ:
    """`Tokenizer` of LlamaGen. Images of any square size divisible by the factor are taken: n / f tokens a side."""

    def __init__(self, card: Card, network: VQNetwork) -> None:
        if card.tokens is None:
            raise InputError(f"the card {card.name} has no token layout", "`tokens` is empty", "fill it in")
        self.card = card
        self.spec: TokenSpec = card.tokens
        self.network = network
        self._dtype = network.post_quant_conv.weight.dtype

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        network = bring_up(lambda: VQNetwork(card.config), card, spec, names=official_names, ignored=IGNORED)
        network.quantize.float()  # distances in half precision would change ids
        if spec.compile:
            network.encoder.compile()
            network.decoder.compile()
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        height, width = images.shape[-2:]
        if height != width or height % self.network.factor:
            raise ImageError(
                f"{self.card.name} cannot encode {height} x {width} images",
                f"it takes squares whose side is a multiple of {self.network.factor}",
                f"resize to {self.card.resolution} x {self.card.resolution}",
            )
        return Codes(ids=(self.network.encode((images * 2 - 1).to(self._dtype)),))

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            (ids,) = codes.ids
            if math.isqrt(ids.shape[1]) ** 2 != ids.shape[1]:
                raise InputError(
                    f"{self.card.name} cannot decode {ids.shape[1]} tokens", "they are no square grid", "pass n x n ids"
                )
            return ((self.network.decode(ids).float() + 1) / 2).clamp(0, 1)

    def close(self) -> None:
        del self.network


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    with uninitialised():
        network = VQNetwork(config).eval()
    load_strict(network, state, card_name="LlamaGen's VQModel", names=official_names, ignored=IGNORED)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "encode":
            return {"ids": network.encode(inputs["images"])}
        if probe == "decode":
            return {"images": network.decode(inputs["ids"])}
        raise InputError(f"no probe {probe!r} for a LlamaGen tokenizer", "known: encode, decode", "")

    return call
