"""TiTok (Yu et al., NeurIPS 2024): an image as a short sequence of codes or of numbers."""

from __future__ import annotations

from ...layers.sequence_tokenizer import SequenceTokenizer


class TiTok(SequenceTokenizer):
    """`Tokenizer`."""


replay = TiTok.replay
