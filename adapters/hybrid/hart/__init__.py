"""HART (Tang et al., ICLR 2025): next-scale codes, and a diffused residual on the last map."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="hart",
    cards=CARDS,
    files=(
        StateDict(what="a HART generator", has=(r"context_embed\.weight", r"diffloss\.net\..*")),
        StateDict(what="a HART generator", has=(r"caption_in\.weight", r"residual_head\..*")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
    training={"hybrid/hart-mini": f"{__name__}.training:RECIPE"},
)
