"""The network of IBQ: taming's autoencoder around a codebook whose largest dot product wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...layers import vqgan
from ...layers.vqgan import IGNORED, TRAINING_ONLY, Config, official_names

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]


class Network(vqgan.Network):
    """Encoder, codebook and decoder; images in [-1, 1], the output not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__({"class": "IBQ", **config})
