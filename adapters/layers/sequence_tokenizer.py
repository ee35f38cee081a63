"""Tokenizers of a sequence: TiTok and those that are built on it, from loading to replaying."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from arbench.errors import ImageError, InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from .checkpoint import build_and_load, compile_blocks, with_state
from .titok import IGNORED, Network, official_names
from .tokenizer import NetworkTokenizer, check_range


class SequenceTokenizer(NetworkTokenizer):
    """`Tokenizer` of the images of the card's size: ids (B, K), or latents (B, C, 1, K)."""

    network: Network
    network_class: ClassVar[type[Network]] = Network

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        network = build_and_load(
            lambda: cls.network_class(card.config), card, spec, names=official_names, ignored=IGNORED
        )
        if not network.config.continuous:
            network.quantize.float()  # distances in half precision would change ids
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        """Ids; of continuous tokens the mean of the posterior, or with `noise` a draw from it."""
        self._check_size(images)
        pixels = images.to(self.dtype)
        if not self.network.config.continuous:
            return Codes(ids=(self.network.encode(pixels),))
        mean, deviation = self.network.moments(pixels)
        if noise is not None:
            mean = mean + deviation * noise.normal("posterior", mean.shape[1:])
        return Codes(latents=mean)

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            return self._images(codes, self.network.config.num_latent_tokens)

    def _images(self, codes: Codes, count: int) -> Tensor:
        """(B, 3, H, W) in [0, 1] of the first `count` tokens."""
        if self.network.config.continuous:
            latents = codes.latents
            wanted = (self.network.config.token_size, 1)
            if latents is None or latents.ndim != 4 or tuple(latents.shape[1:3]) != wanted:
                given = "none" if latents is None else f"of shape {tuple(latents.shape)}"
                raise InputError(
                    f"{self.card.name} decodes latents of shape (B, {wanted[0]}, 1, n)",
                    f"the codes have {given}",
                    "pass what its encoder gives",
                )
            return self.network.render(latents[..., :count]).float().clamp(0, 1)
        (ids,) = codes.ids
        return self.network.decode(ids[:, :count]).float().clamp(0, 1)

    def _check_size(self, images: Tensor) -> None:
        check_range(self.card, images)
        side = self.network.config.crop_size
        if tuple(images.shape[-2:]) != (side, side):
            raise ImageError(
                f"{self.card.name} cannot encode {images.shape[-2]} x {images.shape[-1]} images",
                f"its places are those of {side} x {side} pixels",
                f"resize to {side} x {side}",
            )

    @classmethod
    def replay(
        cls,
        config: Mapping[str, Any],
        state: dict[str, Tensor],
        tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
    ) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
        """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
        network = with_state(
            lambda: cls.network_class(config),
            state,
            card_name=cls.__name__,
            names=official_names,
            ignored=IGNORED,
        )

        @torch.inference_mode()
        def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            text = inputs.get("text_guidance")
            if probe == "encode":
                return {"ids": network.encode(inputs["images"])}
            if probe == "decode":
                return {"images": network.decode(inputs["ids"][:, : settings.get("length")], text)}
            if probe == "encode_moments":
                mean, deviation = network.moments(inputs["images"])
                return {"mean": mean, "std": deviation}
            if probe == "decode_latents":
                return {"images": network.render(inputs["latents"], text)}
            known = "encode, decode, encode_moments, decode_latents"
            raise InputError(f"no probe {probe!r} for a tokenizer of sequences", f"known: {known}", "")

        return call
