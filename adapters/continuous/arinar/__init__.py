"""ARINAR (Zhao et al., arXiv:2503.02883): MAR's backbone, and a head that draws a token number by number."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="arinar",
    cards=CARDS,
    files=(
        StateDict(what="an ARINAR generator", has=(r"arhead\.start_token", r"encoder_pos_embed_learned")),
        StateDict(what="an ARINAR generator", has=(r"head\.first", r"no_class")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
