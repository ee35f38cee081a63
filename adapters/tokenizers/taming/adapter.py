"""The VQGANs of "Taming transformers" (Esser et al., CVPR 2021)."""

from __future__ import annotations

from ...layers.grid_tokenizer import GridTokenizer
from ...layers.tokenizer import LooksUp
from .network import IGNORED, Network, official_names


class VQGAN(LooksUp, GridTokenizer):
    """`Tokenizer`. With Gumbel logits the code is the likeliest one; upstream draws it, even when encoding."""

    network: Network
    network_class = Network
    official_names = staticmethod(official_names)
    ignored = IGNORED


replay = VQGAN.replay
