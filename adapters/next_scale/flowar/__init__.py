"""FlowAR (Ren et al., ICML 2025): next-scale prediction of continuous latents, each scale drawn by a flow."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="flowar",
    cards=CARDS,
    files=(
        StateDict(what="a FlowAR generator", has=(r"flownet\.input_proj\.weight", r"encoder_pos_embed_learned")),
        StateDict(what="a FlowAR generator", has=(r"flow\.token_in\.weight", r"state_position")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
    training={"next_scale/flowar-mini": f"{__name__}.training:RECIPE"},
)
