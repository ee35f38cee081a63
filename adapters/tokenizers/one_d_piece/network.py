"""The network of TiTok, which its descendants share."""

from __future__ import annotations

from ...layers.titok import IGNORED, TRAINING_ONLY, Config, Network, official_names

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]
