"""The network of VAR's tokenizer: the autoencoder of `layers/multiscale.py` as it is."""

from __future__ import annotations

from ...layers.multiscale import Network, official_names

__all__ = ["IGNORED", "Network", "official_names"]

IGNORED = (r"quantize\.ema_vocab_hit_SV",)
"""Official keys that are only usage counters; their shape follows the scale list of the training run."""
