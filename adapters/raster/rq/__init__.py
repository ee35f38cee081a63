"""RQ-Transformer (Lee et al., CVPR 2022): residual codes, place after place and depth after depth."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="rq",
    cards=CARDS,
    files=(
        StateDict(what="an RQ-Transformer generator", has=(r"pos_emb_hw", r"head_transformer\.blocks\.0\..*")),
        StateDict(what="an RQ-Transformer generator", has=(r"class_place", r"head\.0\.qkv\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
