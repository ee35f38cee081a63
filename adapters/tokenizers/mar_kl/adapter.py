"""The KL autoencoder of MAR: one grid of continuous latents (Li et al., NeurIPS 2024, arXiv:2406.11838).

Its form is that of latent diffusion (Rombach et al., CVPR 2022), 16x down with 16 channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.tokenizer import NetworkTokenizer, check_multiple, from_signed, to_signed
from .network import IGNORED, LATENT_SCALE, Network, official_names


class MARKL(NetworkTokenizer):
    """`Tokenizer` of MAR and its relatives. `Codes.latents` (B, C, h, w) are not scaled by `latent_scale`.

    Images of any size divisible by the factor are taken.
    """

    network: Network
    latent_scale = LATENT_SCALE

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        names = official_names(card.config)
        network = build_and_load(lambda: Network(card.config), card, spec, names=names, ignored=IGNORED)
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        """The mean of the posterior, or with `noise` a draw from it."""
        check_multiple(self.card, images, self.network.factor, square=False)
        mean, deviation = self.network.moments(to_signed(images, self.dtype))
        if noise is not None:
            mean = mean + deviation * noise.normal("posterior", mean.shape[1:])
        return Codes(latents=mean)

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            if codes.latents is None or codes.latents.ndim != 4 or codes.latents.shape[1] != self.network.channels:
                given = "none" if codes.latents is None else f"of shape {tuple(codes.latents.shape)}"
                raise InputError(
                    f"{self.card.name} decodes latents of shape (B, {self.network.channels}, h, w)",
                    f"the codes have {given}",
                    "pass what its encoder or a generator made for it gives",
                )
            return from_signed(self.network.render(codes.latents))


def restored(config: Mapping[str, Any], state: dict[str, Tensor]) -> Network:
    """The network of a recording."""
    names = official_names(config)
    return with_state(lambda: Network(config), state, card_name="MAR's AutoencoderKL", names=names, ignored=IGNORED)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    network = restored(config, state)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "encode_moments":
            mean, deviation = network.moments(inputs["images"])
            return {"mean": mean, "std": deviation}
        if probe == "decode_latents":
            return {"images": network.render(inputs["latents"])}
        raise InputError(f"no probe {probe!r} for a KL autoencoder", "known: encode_moments, decode_latents", "")

    return call
