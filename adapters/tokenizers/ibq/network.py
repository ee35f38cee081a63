"""The network of IBQ: taming's autoencoder around a codebook whose largest dot product wins."""

from __future__ import annotations

from ...layers.vqgan import IGNORED, TRAINING_ONLY, Config, Network, official_names

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]
