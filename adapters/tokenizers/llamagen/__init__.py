"""LlamaGen's tokenizer (Sun et al., 2024): one grid of codes on the unit sphere."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="llamagen",
    cards=CARDS,
    files=(
        StateDict(
            what="a LlamaGen tokenizer",
            has=(r"encoder\.conv_blocks\.0\.res\.0\.norm1\.weight", r"quantize\.embedding\.weight"),
            lacks=(r"s2(to1|d)encoder\..*",),
        ),
        StateDict(
            what="a LlamaGen tokenizer",
            has=(
                r"encoder\.levels\.0\.blocks\.0\.norm1\.weight",
                r"quantize\.embedding\.weight",
                r"post_quant_conv\.weight",
            ),
            lacks=(r"writer\..*",),
        ),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
    training={"tokenizers/llamagen-mini": f"{__name__}.training:RECIPE"},
)
