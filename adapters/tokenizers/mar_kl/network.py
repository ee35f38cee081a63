"""The network of MAR's KL autoencoder, and the scale of its latents."""

from __future__ import annotations

from ...layers.kl import IGNORED, TRAINING_ONLY, Config, Network, official_names

__all__ = ["IGNORED", "LATENT_SCALE", "TRAINING_ONLY", "Config", "Network", "official_names"]

LATENT_SCALE = 0.2325
"""Generators work on latents times this number, about one over their standard deviation."""
