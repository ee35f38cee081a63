"""MaskBit's tokenizers (Weber et al., TMLR 2024): bits without a codebook, and VQGAN+ with one."""

from __future__ import annotations

from ...layers.grid_tokenizer import GridTokenizer
from ...layers.tokenizer import LooksUp
from .network import IGNORED, Network, official_names


class MaskBitVQ(LooksUp, GridTokenizer):
    """`Tokenizer`."""

    network: Network
    network_class = Network
    official_names = staticmethod(official_names)
    ignored = IGNORED
    signed = False


replay = MaskBitVQ.replay
