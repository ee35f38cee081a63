"""The network of TA-TiTok: TiTok's, with the features of a caption behind the tokens that the decoder reads."""

from __future__ import annotations

from ...layers import titok
from ...layers.titok import IGNORED, TRAINING_ONLY, Config, official_names

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]


class Network(titok.Network):
    """Encoder, codebook or posterior, decoder with a caption; without one its features are zeros."""

    reads_text = True
