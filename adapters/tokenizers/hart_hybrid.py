"""HART's hybrid tokenizer (Tang et al., ICLR 2025): VAR's multi-scale codes plus a continuous residual."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from ..layers.checkpoint import OfficialNames, bring_up, compile_blocks, with_state
from ..layers.quantize import MultiScaleQuantizer
from ..layers.tokenizer import NetworkTokenizer, from_signed, to_signed
from . import var_msvq
from .var_msvq import MSVQNetwork, VARTokenizer, split

IGNORED = (r"vae\.quantize\.ema_vocab_hit_SV", r"vae\.(decoder2|post_quant_conv2)\..*", r"disc\..*")
"""Official keys without effect on codes and images: usage counters, a second decoder, the discriminator."""

WITHOUT_EFFECT = frozenset(
    {"quantizer_type", "hybrid", "levels", "disable_quant_resi", "freeze_codebook_for_hybrid", "double_decoder"}
)
"""Official hyper-parameters that change neither codes nor images of a trained network."""
WIDTH = 160
"""Upstream's default of `ch`, the only one that is not VAR's."""


def network_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters of VAR's tokenizer among HART's."""
    return {"ch": WIDTH} | {name: value for name, value in config.items() if name not in WITHOUT_EFFECT}


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> the official key, for a network of this `config`."""
    names = var_msvq.official_names(network_config(config))
    return lambda ours: tuple(f"vae.{key}" for key in names(ours))


def discrete_part(quantizer: MultiScaleQuantizer, levels: Sequence[Tensor]) -> Tensor:
    """(B, C, H, W): what the residual is added to, from ids (B, h * w) of all scales.

    Unlike in VAR, and in the discrete-only decoder, codes of the last scale do not pass a convolution here.
    """
    last = len(quantizer.sides) - 1
    f_hat = quantizer.start(len(levels[0]))
    for scale, ids in enumerate(levels[:last]):
        f_hat = quantizer.accumulate(f_hat, ids, scale)
    return f_hat + quantizer.lookup(levels[last], last)


class HARTTokenizer(NetworkTokenizer):
    """`Tokenizer` of HART, with `decode_prefix`. `Codes.latents` is the residual (B, C, H, W), float32.

    Codes with the residual give the hybrid reconstruction, `codes.without_latents()` the discrete-only one.
    """

    network: MSVQNetwork

    def __init__(self, card: Card, network: MSVQNetwork) -> None:
        super().__init__(card, network)
        self._discrete = VARTokenizer(card, network)

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        config, names = network_config(card.config), official_names(card.config)
        network = bring_up(lambda: MSVQNetwork(config), card, spec, names=names, ignored=IGNORED)
        network.quantize.float()  # residuals in half precision would change ids
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @property
    def quantizer(self) -> MultiScaleQuantizer:
        """For generators: `contribution`, `next_input`, `teacher_forcing`."""
        return self.network.quantize

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        self._discrete.check_size(images)
        features = self.network.features(to_signed(images, self.dtype)).float()
        levels, _ = self.quantizer.encode(features)
        return self.hybrid(levels, features)

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        if codes.latents is None:
            return self._discrete.decode(codes, probe=probe)
        with probe("decode"):
            self._discrete.check_levels(codes.ids, len(self.spec.levels))
            features = discrete_part(self.quantizer, codes.ids) + codes.latents
            return from_signed(self.network.render(features))

    @torch.inference_mode()
    def decode_prefix(self, codes: Codes, count: int) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] from the first `count` scales, 1 to K, without the residual."""
        return self._discrete.decode_prefix(codes, count)

    def hybrid(self, levels: Sequence[Tensor], features: Tensor) -> Codes:
        """Codes that decode to the image of a feature map (B, C, H, W), given the ids of all scales."""
        return Codes(ids=tuple(levels), latents=features - discrete_part(self.quantizer, levels))

    def close(self) -> None:
        self._discrete.close()
        super().close()


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
        if probe == "decode_latents":
            return {"images": network.render(inputs["latents"])}
        raise InputError(
            f"no probe {probe!r} for a HART tokenizer", "known: encode, decode, decode_prefix, decode_latents", ""
        )

    return call


def restored(config: Mapping[str, Any], state: dict[str, Tensor]) -> MSVQNetwork:
    """The network of a recording, with its weights."""
    ours, names = network_config(config), official_names(config)
    return with_state(lambda: MSVQNetwork(ours), state, card_name="HART's tokenizer", names=names, ignored=IGNORED)
