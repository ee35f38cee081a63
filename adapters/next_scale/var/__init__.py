"""VAR (Tian et al., NeurIPS 2024): one scale of a token pyramid after the other."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

DISTILLED = (r"final_layer_conti\.linear\.weight", r"continuous\.out\.weight")
"""Keys of Distilled Decoding, which builds on this network."""

SYSTEM = System(
    name="var",
    cards=CARDS,
    files=(
        StateDict(
            what="a VAR generator",
            has=(r"pos_start", r"lvl_embed\.weight", r"blocks\.0\.attn\.mat_qkv\.weight"),
            lacks=DISTILLED,
        ),
        StateDict(
            what="a VAR generator",
            has=(r"first_position", r"level_table\.weight", r"features_in\.weight"),
            lacks=DISTILLED,
        ),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
    training={"next_scale/var-mini": f"{__name__}.training:RECIPE"},
)
