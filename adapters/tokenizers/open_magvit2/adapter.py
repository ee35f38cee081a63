"""Open-MAGVIT2's tokenizers (Luo et al., arXiv:2409.04410): bits without a codebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...layers.checkpoint import OfficialNames
from ...layers.grid_tokenizer import AVERAGES, GridTokenizer, averaged
from ...layers.tokenizer import LooksUp
from .network import IGNORED, Network, official_names


def file_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> its averaged weights in an official file."""
    return averaged(official_names(config))


class OpenMAGVIT2(LooksUp, GridTokenizer):
    """`Tokenizer`."""

    network: Network
    network_class = Network
    official_names = staticmethod(official_names)
    file_names = staticmethod(file_names)
    ignored = (*IGNORED, *AVERAGES)


class Recorded(OpenMAGVIT2):
    """As recorded: nothing but the network's own keys."""

    ignored = IGNORED


replay = Recorded.replay
