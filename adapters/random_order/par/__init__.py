"""PAR (Wang et al., arXiv:2412.15119): tokens at the same place of several regions in one pass."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

WHAT = "a PAR generator, as DetailFlow's are"
"""Their files have the same keys."""

SYSTEM = System(
    name="par",
    cards=CARDS,
    files=(
        StateDict(
            what="a PAR generator, as DetailFlow's are", has=(r"spe_tok_embeddings\.special_embeddings\.weight",)
        ),
        StateDict(what="a PAR generator, as DetailFlow's are", has=(r"token_table\.weight", r"bridge\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
