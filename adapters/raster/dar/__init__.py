"""D-AR (Gao and Shou, arXiv:2505.23660): next-token prediction over the tokens of a diffusion decoder."""

from __future__ import annotations

from arbench.protocols import System

from ..llamagen import SYSTEM as LLAMAGEN
from .cards import CARDS

SYSTEM = System(
    name="dar",
    cards=CARDS,
    files=LLAMAGEN.files,  # the same weights, with other positions
    replays={"generator": f"{__name__}.adapter:replay"},
)
