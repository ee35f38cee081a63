"""CCA (arXiv:2410.09347) on LlamaGen: sampling is LlamaGen's, natively without guidance."""

from __future__ import annotations

from ..llamagen.adapter import LlamaGen


class CCALlamaGen(LlamaGen):
    """LlamaGen's `Generator` and `Scores`, with the weights of condition contrastive alignment."""
