"""CCA (Chen et al., ICLR 2025) on VAR: fine-tuned to be sampled without guidance; other weights, nothing else."""

from __future__ import annotations

from arbench.protocols import System

from ..var import SYSTEM as VAR
from .cards import CARDS

SYSTEM = System(name="cca-var", cards=CARDS, files=VAR.files)
