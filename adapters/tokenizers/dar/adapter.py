"""D-AR's tokenizer (Gao and Shou, arXiv:2505.23660): tokens in a row, decoded by diffusion, some tokens a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe
from arbench.seeds import noise_for

from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.tokenizer import LooksUp, check_multiple, from_signed, to_signed
from .network import IGNORED, Network, official_names


class DARTokenizer(LooksUp):
    """`Tokenizer`. The noise that decoding starts from is one draw, the same for every image and call."""

    network: Network

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        names = official_names(card.config)
        network = build_and_load(lambda: Network(card.config), card, spec, names=names, ignored=IGNORED)
        network.quantize.float()  # distances in half precision would change ids
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        check_multiple(self.card, images, self.network.sizes.encoder_patch_size, square=True)
        return Codes(ids=(self.network.encode(to_signed(images, self.dtype)),))

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            (ids,) = codes.ids
            side = max(self.card.resolution, self.network.sizes.sampling_resolution)
            start = noise_for(0, [0], ids.device).normal("start", (3, side, side))
            return from_signed(self.network.decode(ids, start.expand(len(ids), -1, -1, -1)))


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    names = official_names(config)
    network = with_state(lambda: Network(config), state, card_name="D-AR's VQModel", names=names, ignored=IGNORED)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "encode":
            return {"ids": network.encode(inputs["images"])}
        if probe == "hidden":
            return {"hidden": network.conditions(inputs["ids"])}
        if probe == "denoise":
            return {"prediction": network.decoder(inputs["noisy"], inputs["timesteps"], inputs["hidden"])}
        if probe == "decode":
            ids, least = inputs["ids"], network.sizes.sampling_resolution
            sides = (max(least, settings.get("height", 256)), max(least, settings.get("width", 256)))
            start = inputs.get("noise", torch.zeros(len(ids), 3, *sides))
            return {"images": network.decode(ids, start, settings.get("clip_steps"))}
        raise InputError(f"no probe {probe!r} for D-AR's tokenizer", "known: encode, hidden, denoise, decode", "")

    return call
