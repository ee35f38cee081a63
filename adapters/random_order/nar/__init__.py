"""NAR (He et al., arXiv:2503.10696): the next anti-diagonal of tokens in one pass."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="nar",
    cards=CARDS,
    files=(
        StateDict(what="an NAR generator", has=(r"medusa_output\.weight",)),
        StateDict(what="an NAR generator", has=(r"token_table\.weight", r"below\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
