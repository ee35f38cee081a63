"""NPP (arXiv:2412.15321) at sampling time: patches are for training only, so that it is LlamaGen."""

from __future__ import annotations

from ..llamagen.adapter import LlamaGen


class NPP(LlamaGen):
    """LlamaGen's `Generator` and `Scores`, with the weights of next patch prediction."""
