"""PAR (Wang et al., arXiv:2412.15119): tokens at the same place of several regions in one pass."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="par",
    cards=CARDS,
    files=(
        StateDict(what="a PAR generator", has=(r"spe_tok_embeddings\.special_embeddings\.weight",)),
        StateDict(what="a PAR generator", has=(r"token_table\.weight", r"bridge\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
