"""The KL autoencoder of MAR (Li et al., NeurIPS 2024, arXiv:2406.11838), 16x down with 16 channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from arbench.errors import InputError

from ...layers.checkpoint import with_state
from ...layers.kl import KLTokenizer
from .network import IGNORED, LATENT_SCALE, Network, official_names


class MARKL(KLTokenizer):
    """`Tokenizer` of MAR and its relatives."""

    latent_scale = LATENT_SCALE


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
