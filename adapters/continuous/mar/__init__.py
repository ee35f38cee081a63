"""MAR (Li et al., NeurIPS 2024): continuous tokens in random order, each drawn by diffusion."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

OTHERS = (
    *(r"diffloss\.net\.index_cond_embed\.weight", r"head\.index_in\.weight"),
    *(r"arhead\.start_token", r"head\.first"),
)
"""Keys of FAR and ARINAR, which build on this network."""

SYSTEM = System(
    name="mar",
    cards=CARDS,
    files=(
        StateDict(what="a MAR generator", has=(r"encoder_blocks\.0\..*", r"diffloss\.net\..*"), lacks=OTHERS),
        StateDict(what="a MAR generator", has=(r"no_class", r"head\.state_in\.weight"), lacks=OTHERS),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
    training={"continuous/mar-mini": f"{__name__}.training:RECIPE"},
)
