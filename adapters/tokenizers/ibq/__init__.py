"""IBQ (Shi et al., arXiv:2412.02692): large codebooks whose every code was trained at every step."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="ibq",
    cards=CARDS,
    files=(  # the same network as taming's
        StateDict(
            what="a VQGAN tokenizer",
            has=(
                r"encoder\.down\.0\.block\.0\.norm1\.weight",
                r"encoder\.mid\.attn_1\.q\.weight",
                r"quantize\.embedding\.weight",
                r"post_quant_conv\.weight",
            ),
            lacks=(r"quantize\.quant_resi\..*",),
        ),
        StateDict(
            what="a VQGAN tokenizer",
            has=(
                r"encoder\.levels\.0\.blocks\.0\.norm1\.weight",
                r"quantize\.table\.embedding\.weight",
                r"post_quant_conv\.weight",
            ),
        ),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
