"""Infinity's bitwise tokenizer (Han et al., arXiv:2412.04431): residual scales of bits."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="infinity",
    cards=CARDS,
    files=(
        StateDict(what="an Infinity tokenizer", has=(r"encoder\.conv_in\.conv\.weight",)),
        StateDict(
            what="an Infinity tokenizer",
            has=(r"encoder\.stem\.weight", r"decoder\.levels\.0\.blocks\.0\.conv1\.bias"),
            lacks=(r"quantize\..*", r"quant_conv\..*", r"post_quant_conv\..*"),
        ),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
