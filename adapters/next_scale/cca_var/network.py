"""The network of CCA's VAR is VAR's."""

from ..var.network import IGNORED, TRAINING_ONLY, Config, Network, official_names

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]
