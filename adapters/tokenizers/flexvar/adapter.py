"""FlexVAR's tokenizer (arXiv:2502.20313): the last scale alone is the image, earlier ones are smaller images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import ImageError, InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.tokenizer import NetworkTokenizer, check_grid, check_range, from_signed, to_signed
from .network import IGNORED, Network, official_names


class FlexVARTokenizer(NetworkTokenizer):
    """`Tokenizer` and `Prefix`: `decode_prefix` gives the picture of an earlier scale, which is smaller."""

    network: Network

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        network = build_and_load(lambda: Network(card.config), card, spec, names=official_names, ignored=IGNORED)
        network.quantize.float()  # distances in half precision would change ids
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        check_range(self.card, images)
        side = self.network.sides[-1] * self.network.factor
        if tuple(images.shape[-2:]) != (side, side):
            raise ImageError(
                f"{self.card.name} cannot encode {images.shape[-2]} x {images.shape[-1]} images",
                f"its scales are made for {side} x {side}",
                f"resize to {side} x {side}",
            )
        return Codes(ids=tuple(self.network.encode_scales(to_signed(images, self.dtype), self.network.sides)))

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            check_grid(self.card, codes.ids[-1])
            return from_signed(self.network.decode(codes.ids[-1]))

    def next_input(self, ids: Tensor, side: int) -> Tensor:
        """For generators: what the scale after that of `ids` is fed."""
        return self.network.next_input(ids, side)


def restored(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Network:
    """The network of a recording."""
    return with_state(
        lambda: Network(config), state, card_name="FlexVAR's VQModel", names=official_names, ignored=IGNORED
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
            sides = settings.get("v_patch_nums")
            if sides is None:
                return {"ids": network.encode(inputs["images"])}
            return {"ids": torch.cat(network.encode_scales(inputs["images"], sides), dim=1)}
        if probe == "decode":
            return {"images": network.decode(inputs["ids"])}
        raise InputError(f"no probe {probe!r} for a FlexVAR tokenizer", "known: encode, decode", "")

    return call
