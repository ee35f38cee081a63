"""The multi-scale residual VQ tokenizer of VAR (Tian et al., NeurIPS 2024)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from arbench.errors import ImageError, InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from ..layers.autoencoder import Decoder, Encoder, compvis_names
from ..layers.checkpoint import OfficialNames, bring_up, compile_blocks, with_state
from ..layers.config import from_upstream
from ..layers.quantize import MultiScaleQuantizer
from ..layers.tokenizer import NetworkTokenizer, from_signed, to_signed

IGNORED = (r"quantize\.ema_vocab_hit_SV",)
"""Official keys that are only usage counters; their shape follows the scale list of the training run."""

TRAINING_ONLY = ("class", "dropout", "beta", "test_mode")
"""Official hyper-parameters without effect on a trained network."""


@dataclass(frozen=True, slots=True)
class MSVQConfig:
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
    c = from_upstream(MSVQConfig, config, TRAINING_ONLY)
    coders = compvis_names(len(c.ch_mult), fused=True)
    phis = {0: r"quantize.quant_resi.\1.", 1: "quantize.quant_resi.qresi."}.get(
        c.share_quant_resi, r"quantize.quant_resi.qresi_ls.\1."
    )

    def name(ours: str) -> tuple[str, ...]:
        (name,) = coders(ours)
        return (re.sub(r"^quantize\.phis\.(\d+)\.", phis, name).replace("quantize.codebook.", "quantize."),)

    return name


class MSVQNetwork(nn.Module):
    """Encoder, multi-scale quantiser and decoder; images in [-1, 1]."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = from_upstream(MSVQConfig, config, TRAINING_ONLY)
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


class VARTokenizer(NetworkTokenizer):
    """`Tokenizer` of VAR, with `decode_prefix`. `Codes.latents` is `f_hat`; `network.quantize` serves generators."""

    network: MSVQNetwork

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        names = official_names(card.config)
        network = bring_up(lambda: MSVQNetwork(card.config), card, spec, names=names, ignored=IGNORED)
        network.quantize.float()  # residuals in half precision would change ids
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @property
    def quantizer(self) -> MultiScaleQuantizer:
        """For generators: `accumulate`, `next_input`, `teacher_forcing`, `f_hat`."""
        return self.network.quantize

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        self.check_size(images)
        levels, f_hat = self.network.encode(to_signed(images, self.dtype))
        return Codes(ids=tuple(levels), latents=f_hat)

    def check_size(self, images: Tensor) -> None:
        """Raise ImageError unless the images (B, 3, H, W) are of the side that the scales are made for."""
        side = self.network.quantize.sides[-1] * self.network.factor
        if tuple(images.shape[-2:]) != (side, side):
            raise ImageError(
                f"{self.card.name} cannot encode {images.shape[-2]} x {images.shape[-1]} images",
                f"its scales are made for {side} x {side}",
                f"resize to {side} x {side}",
            )

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            f_hat = codes.latents if codes.latents is not None else self._f_hat(codes.ids, len(self.spec.levels))
            return from_signed(self.network.render(f_hat))

    @torch.inference_mode()
    def decode_prefix(self, codes: Codes, count: int) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] from the first `count` scales, 1 to K."""
        return from_signed(self.network.render(self._f_hat(codes.ids, count)))

    def _f_hat(self, levels: Sequence[Tensor], count: int) -> Tensor:
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


def split(ids: Tensor, sides: Sequence[int]) -> tuple[Tensor, ...]:
    """Ids (B, L) of all scales concatenated, one (B, side * side) each."""
    return torch.split(ids, [side * side for side in sides], dim=1)


def restored(config: Mapping[str, Any], state: dict[str, Tensor]) -> MSVQNetwork:
    """The network of a recording, with its weights."""
    names = official_names(config)
    return with_state(lambda: MSVQNetwork(config), state, card_name="VAR's VQVAE", names=names, ignored=IGNORED)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    network = restored(config, state)
    sides = network.quantize.sides

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "encode":
            return {"ids": torch.cat(network.encode(inputs["images"])[0], dim=1)}
        if probe == "decode":
            return {"images": network.render(network.quantize.f_hat(split(inputs["ids"], sides)))}
        if probe == "decode_prefix":
            first = sides[: settings["scales"]]
            levels = split(inputs["ids"][:, : sum(side * side for side in first)], first)
            return {"images": network.render(network.quantize.f_hat(levels))}
        raise InputError(f"no probe {probe!r} for a VAR tokenizer", "known: encode, decode, decode_prefix", "")

    return call
