"""FlexVAR's tokenizer (Jiao et al., arXiv:2502.20313): LlamaGen's, with every scale a picture of its own."""

from __future__ import annotations

from arbench.protocols import System

from ..llamagen import SYSTEM as LLAMAGEN
from .cards import CARDS

SYSTEM = System(
    name="flexvar",
    cards=CARDS,
    files=LLAMAGEN.files,
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
