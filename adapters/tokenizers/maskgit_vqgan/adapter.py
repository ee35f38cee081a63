"""MaskGIT's VQGAN without attention (Chang et al., CVPR 2022), in the PyTorch port that RAR, TiTok and RandAR use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.tokenizer import LooksUp, check_grid, check_multiple
from .network import Network, official_names


class MaskGITVQGAN(LooksUp):
    """`Tokenizer`. Images of any square size divisible by the factor are taken: n / f tokens a side."""

    network: Network

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        network = build_and_load(lambda: Network(card.config), card, spec, names=official_names)
        network.quantize.float()  # distances in half precision would change ids
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        check_multiple(self.card, images, self.network.factor, square=True)
        return Codes(ids=(self.network.encode(images.to(self.dtype)),))

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            (ids,) = codes.ids
            check_grid(self.card, ids)
            return self.network.decode(ids).float().clamp(0, 1)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    network = with_state(lambda: Network(config), state, card_name="MaskGIT's VQGAN", names=official_names)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "encode":
            return {"ids": network.encode(inputs["images"])}
        if probe == "decode":
            return {"images": network.decode(inputs["ids"])}
        raise InputError(f"no probe {probe!r} for a MaskGIT tokenizer", "known: encode, decode", "")

    return call
