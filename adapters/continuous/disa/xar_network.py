"""The network is that of xar: DiSA is a sampler."""

from ..xar.network import TRAINING_ONLY, Config, Network, official_names

__all__ = ["TRAINING_ONLY", "Config", "Network", "official_names"]
