"""GigaTok's tokenizers (Xiong et al., arXiv:2504.08736): tokens in a row or in a grid."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="gigatok",
    cards=CARDS,
    files=(
        StateDict(what="a GigaTok tokenizer", has=(r"s2to1encoder\.ln_pre\.weight", r"s1to2decoder\.ln_pre\.weight")),
        StateDict(what="a GigaTok tokenizer", has=(r"s2dencoder\.ln_pre\.weight", r"s2ddecoder\.ln_pre\.weight")),
        StateDict(what="a GigaTok tokenizer", has=(r"writer\.norm_in\.weight", r"reader\.norm_in\.weight")),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
