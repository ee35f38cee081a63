"""NPP (Pang et al., arXiv:2412.15321): LlamaGen trained by predicting patches first; other weights, nothing else."""

from __future__ import annotations

from arbench.protocols import System

from ..llamagen import SYSTEM as LLAMAGEN
from .cards import CARDS

SYSTEM = System(name="npp", cards=CARDS, files=LLAMAGEN.files)
