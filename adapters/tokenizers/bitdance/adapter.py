"""BitDance's tokenizer (arXiv:2602.14041): bits in place of a codebook."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.tokenizer import NetworkTokenizer, check_grid, check_multiple, from_signed, to_signed
from .network import IGNORED, Network, official_names


class BitDanceTokenizer(NetworkTokenizer):
    """`Tokenizer`. Ids are those of a place's groups, then of the next place."""

    network: Network

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        network = build_and_load(lambda: Network(card.config), card, spec, names=official_names, ignored=IGNORED)
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        check_multiple(self.card, images, self.network.factor, square=True)
        bits = self.network.encode(to_signed(images, self.dtype))
        return Codes(ids=(self.network.ids(bits).flatten(1),))

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            ids = codes.ids[0].unflatten(1, (-1, self.network.config.num_codebooks))
            check_grid(self.card, ids[..., 0])
            side = math.isqrt(ids.shape[1])
            return from_signed(self.network.render(self.network.bits(ids, (side, side))))


def restored(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Network:
    """The network of a recording."""
    return with_state(
        lambda: Network(config), state, card_name="BitDance's VQModel", names=official_names, ignored=IGNORED
    )


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    network = restored(config, state)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "encode":
            bits = network.encode(inputs["images"])
            return {"ids": network.ids(bits), "latents": bits}
        if probe == "dequantize":
            ids = inputs["ids"]
            shape = settings.get("shape") or [math.isqrt(ids.shape[1])] * 2
            return {"latents": network.bits(ids, (shape[0], shape[1]))}
        if probe == "decode":
            return {"images": network.render(inputs["latents"])}
        raise InputError(f"no probe {probe!r} for a BitDance tokenizer", "known: encode, dequantize, decode", "")

    return call
