"""The multi-scale residual VQ tokenizer of VAR (Tian et al., NeurIPS 2024)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.multiscale import MultiScaleTokenizer, split
from ...layers.tokenizer import from_signed, to_signed
from .network import IGNORED, Network, official_names


class VARTokenizer(MultiScaleTokenizer):
    """`Tokenizer` of VAR, with `decode_prefix`. `Codes.latents` is `f_hat`."""

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        names = official_names(card.config)
        network = build_and_load(lambda: Network(card.config), card, spec, names=names, ignored=IGNORED)
        network.quantize.float()  # residuals in half precision would change ids
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        self.check_size(images)
        levels, f_hat = self.network.encode(to_signed(images, self.dtype))
        return Codes(ids=tuple(levels), latents=f_hat)

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            f_hat = codes.latents if codes.latents is not None else self.f_hat(codes.ids, len(self.spec.levels))
            return from_signed(self.network.render(f_hat))


def restored(config: Mapping[str, Any], state: dict[str, Tensor]) -> Network:
    """The network of a recording, with its weights."""
    names = official_names(config)
    return with_state(lambda: Network(config), state, card_name="VAR's VQVAE", names=names, ignored=IGNORED)


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
