"""MAR (Li et al., NeurIPS 2024): continuous tokens in random order, each drawn by diffusion."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="mar",
    cards=CARDS,
    files=(
        StateDict(what="a MAR generator", has=(r"encoder_blocks\.0\..*", r"diffloss\.net\..*")),
        StateDict(what="a MAR generator", has=(r"no_class", r"head\.state_in\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
    training={"continuous/mar-mini": f"{__name__}.training:RECIPE"},
)
