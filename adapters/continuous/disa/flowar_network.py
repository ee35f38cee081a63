"""The network is that of flowar: DiSA is a sampler."""

from ...next_scale.flowar.network import TRAINING_ONLY, Config, Network, official_names

__all__ = ["TRAINING_ONLY", "Config", "Network", "official_names"]
