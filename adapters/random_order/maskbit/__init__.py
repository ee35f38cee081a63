"""MaskBit (Weber et al., TMLR 2024): masked prediction of bit tokens without embeddings."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="maskbit",
    cards=CARDS,
    files=(
        StateDict(what="a MaskBit generator", has=(r"input_proj\.weight", r"transformer\.layers\.0\.0\.mha\..*")),
        StateDict(what="a MaskBit generator", has=(r"bits\.weight", r"blocks\.0\.mlp_in\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
