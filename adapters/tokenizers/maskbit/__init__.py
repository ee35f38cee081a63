"""MaskBit's tokenizers (Weber et al., TMLR 2024): bits without a codebook, and VQGAN+ with one."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="maskbit",
    cards=CARDS,
    files=(
        StateDict(
            what="a MaskBit tokenizer",
            has=(r"encoder\.down\.0\.res_blocks\.0\.norm1\.weight",),
        ),
        StateDict(
            what="a MaskBit tokenizer",
            has=(r"encoder\.middle\.blocks\.0\.norm1\.weight", r"decoder\.levels\.0\.enlarge\.weight"),
        ),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
