"""The network is that of mar: DiSA is a sampler."""

from ..mar.network import TRAINING_ONLY, Config, Network, official_names

__all__ = ["TRAINING_ONLY", "Config", "Network", "official_names"]
