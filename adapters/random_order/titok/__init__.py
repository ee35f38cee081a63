"""TiTok's generators (Yu et al., NeurIPS 2024): masked prediction of tokens in a row."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="titok",
    cards=CARDS,
    files=(
        StateDict(what="a TiTok generator", has=(r"model\.embeddings\..*", r"model\.lm_head\.weight")),
        StateDict(what="a TiTok generator", has=(r"in_blocks\.0\.norm1\.weight", r"mid_block\.norm1\.weight")),
        StateDict(what="a TiTok generator", has=(r"kinds\.weight", r"blocks\.0\.mlp_in\.weight")),
        StateDict(what="a TiTok generator", has=(r"down\.0\.qkv\.weight", r"up\.0\.skip\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
    training={"random_order/titok-mini": f"{__name__}.training:RECIPE"},
)
