"""RandAR (Pang et al., arXiv:2412.01827): tokens in any order, several in a pass."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="randar",
    cards=CARDS,
    files=(
        StateDict(what="a RandAR generator", has=(r"tok_embeddings\.weight", r"pos_instruct_embeddings")),
        StateDict(what="a RandAR generator", has=(r"token_table\.weight", r"instruction")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
    training={"random_order/randar-mini": f"{__name__}.training:RECIPE"},
)
