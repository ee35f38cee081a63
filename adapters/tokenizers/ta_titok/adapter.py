"""TA-TiTok (Kim et al., arXiv:2501.07730): TiTok whose decoder also reads a caption."""

from __future__ import annotations

from ...layers.sequence_tokenizer import SequenceTokenizer
from .network import Network


class TATiTok(SequenceTokenizer):
    """`Tokenizer`. Codes bring no caption, so the caption's features are zeros here; recordings replay with theirs."""

    network_class = Network


replay = TATiTok.replay
