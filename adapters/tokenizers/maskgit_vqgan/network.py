"""The network of MaskGIT's VQGAN, whose decoder others draw their pixels with as well."""

from __future__ import annotations

from ...layers.maskgit_vqgan import TRAINING_ONLY, Config, Network, ResBlock, official_names

__all__ = ["TRAINING_ONLY", "Config", "Network", "ResBlock", "official_names"]
