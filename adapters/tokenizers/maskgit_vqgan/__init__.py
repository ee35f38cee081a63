"""MaskGIT's VQGAN (Chang et al., CVPR 2022), the tokenizer of RAR and of a RandAR."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="rar",
    cards=CARDS,
    files=(
        StateDict(
            what="a MaskGIT VQGAN tokenizer",
            has=(r"decoder\.up\.1\.upsample_conv\.weight", r"quantize\.embedding\.weight"),
            lacks=(r"encoder\.down\.0\.res_blocks\..*",),
        ),
        StateDict(
            what="a MaskGIT VQGAN tokenizer",
            has=(r"encoder\.levels\.0\.blocks\.0\.norm1\.weight", r"decoder\.levels\.1\.enlarge\.weight"),
            lacks=(r"encoder\.middle\.blocks\..*", r"decoder\.styles\..*"),
        ),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
