"""The network of a VQGAN: taming's autoencoder around a codebook, or around logits of codes."""

from __future__ import annotations

from ...layers.vqgan import IGNORED, TRAINING_ONLY, Config, Network, official_names

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]
