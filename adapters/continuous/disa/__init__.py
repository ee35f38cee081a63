"""DiSA (Zhao et al., arXiv:2505.20297): fewer diffusion steps for later tokens, on MAR, xAR and FlowAR as they are."""

from __future__ import annotations

from arbench.protocols import System

from ...next_scale.flowar import SYSTEM as FLOWAR
from ..mar import SYSTEM as MAR
from ..xar import SYSTEM as XAR
from .cards import CARDS

SYSTEM = System(
    name="disa",
    cards=CARDS,
    files=(*MAR.files, *XAR.files, *FLOWAR.files),
    replays={"generator": f"{__name__}.replays:replay"},
)
