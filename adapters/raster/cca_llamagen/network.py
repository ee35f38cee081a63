"""The network of CCA's LlamaGen is LlamaGen's."""

from ..llamagen.network import IGNORED, TRAINING_ONLY, Config, Network, official_names

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]
