"""Infinity (Han et al., CVPR 2025): text to image by next-scale prediction of bits."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="infinity",
    cards=CARDS,
    files=(
        StateDict(what="an Infinity generator", has=(r"text_proj_for_sos\.ca\.mat_q", r"cfg_uncond")),
        StateDict(what="an Infinity generator", has=(r"pool\.query", r"no_caption")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
