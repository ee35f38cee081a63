"""FlexVAR (Jiao et al., arXiv:2502.20313): every scale is a picture of its own, in any list of sizes."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="flexvar",
    cards=CARDS,
    files=(
        StateDict(
            what="a FlexVAR generator",
            has=(r"pos_start", r"blocks\.0\.attn\.mat_qkv\.weight", r"class_emb\.weight", r"word_embed\.weight"),
            lacks=(r"lvl_embed\.weight",),
        ),
        StateDict(
            what="a FlexVAR generator", has=(r"first_position", r"features_in\.weight"), lacks=(r"level_table\.weight",)
        ),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
