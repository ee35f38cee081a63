"""HART's hybrid tokenizer (Tang et al., ICLR 2025): VAR's multi-scale codes plus a continuous residual."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.multiscale import MultiScaleTokenizer, split
from ...layers.tokenizer import from_signed, to_signed
from .network import IGNORED, Network, discrete_part, network_config, official_names


class HARTTokenizer(MultiScaleTokenizer):
    """`Tokenizer` of HART, with `decode_prefix`. `Codes.latents` is the residual (B, C, H, W), float32.

    Codes with the residual give the hybrid reconstruction, `codes.without_latents()` the discrete-only one.
    """

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        config, names = network_config(card.config), official_names(card.config)
        network = build_and_load(lambda: Network(config), card, spec, names=names, ignored=IGNORED)
        network.quantize.float()  # residuals in half precision would change ids
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        self.check_size(images)
        features = self.network.features(to_signed(images, self.dtype)).float()
        levels, _ = self.quantizer.encode(features)
        return self.hybrid(levels, features)

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        scales = len(self.spec.levels)
        with probe("decode"):
            if codes.latents is None:
                features = self.f_hat(codes.ids, scales)
            else:
                self.check_levels(codes.ids, scales)
                features = discrete_part(self.quantizer, codes.ids) + codes.latents
            return from_signed(self.network.render(features))

    def hybrid(self, levels: Sequence[Tensor], features: Tensor) -> Codes:
        """Codes that decode to the image of a feature map (B, C, H, W), given the ids of all scales."""
        return Codes(ids=tuple(levels), latents=features - discrete_part(self.quantizer, levels))


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


def restored(config: Mapping[str, Any], state: dict[str, Tensor]) -> Network:
    """The network of a recording, with its weights."""
    ours, names = network_config(config), official_names(config)
    return with_state(lambda: Network(ours), state, card_name="HART's tokenizer", names=names, ignored=IGNORED)
