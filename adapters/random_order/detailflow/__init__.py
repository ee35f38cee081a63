"""DetailFlow (Liu et al., arXiv:2505.21473): a row of tokens from coarse to fine, a group of them in a pass."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

WHAT = "a PAR generator, as DetailFlow's are"
"""Their files have the same keys."""

SYSTEM = System(
    name="detailflow",
    cards=CARDS,
    files=(
        StateDict(
            what="a PAR generator, as DetailFlow's are", has=(r"spe_tok_embeddings\.special_embeddings\.weight",)
        ),
        StateDict(what="a PAR generator, as DetailFlow's are", has=(r"token_table\.weight", r"bridge\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
