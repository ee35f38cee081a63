"""Halton-MaskGIT (Besnier et al., ICLR 2025): masked prediction in the order of a low-discrepancy sequence."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="halton-maskgit",
    cards=CARDS,
    files=(
        StateDict(what="a Halton-MaskGIT generator", has=(r"reg_tokens\.weight", r"last_norm\.norm_final\.weight")),
        StateDict(what="a Halton-MaskGIT generator", has=(r"registers\.weight", r"head_bias")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
