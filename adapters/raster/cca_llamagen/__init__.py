"""CCA (Chen et al., ICLR 2025) on LlamaGen: fine-tuned to be sampled without guidance; other weights, nothing else."""

from __future__ import annotations

from arbench.protocols import System

from ..llamagen import SYSTEM as LLAMAGEN
from .cards import CARDS

SYSTEM = System(name="cca-llamagen", cards=CARDS, files=LLAMAGEN.files)
