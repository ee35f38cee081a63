"""Stable Diffusion's KL autoencoder (Rombach et al., CVPR 2022), 8x down with 4 channels."""

from __future__ import annotations

from typing import Self

from arbench.errors import CheckpointError
from arbench.protocols import Card, LoadSpec

from ...layers.checkpoint import build_and_load, compile_blocks
from ...layers.kl import KLTokenizer
from .network import LATENT_SCALE, PROJECTIONS, Network, official_names


class SDVAE(KLTokenizer):
    """`Tokenizer`."""

    network: Network
    latent_scale = LATENT_SCALE

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        """Files of Diffusers before 0.17 name the attention's layers otherwise."""
        errors: list[CheckpointError] = []
        for style in PROJECTIONS:
            try:
                names = official_names(card.config, style)
                network = build_and_load(lambda: Network(card.config), card, spec, names=names)
            except CheckpointError as error:
                errors.append(error)
            else:
                compile_blocks(spec, (network.encoder, network.decoder))
                return cls(card, network)
        raise min(errors, key=lambda error: len(error.why))  # that of fewer names missing
