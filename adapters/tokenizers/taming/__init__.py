"""The VQGANs of "Taming transformers" (Esser et al., CVPR 2021): one grid of codes, by distance or by Gumbel logits."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="taming",
    cards=CARDS,
    files=(
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
        StateDict(what="a Gumbel VQGAN tokenizer", has=(r"quantize\.proj\.weight", r"quantize\.embed\.weight")),
        StateDict(
            what="a VQGAN tokenizer",
            has=(
                r"encoder\.levels\.0\.blocks\.0\.norm1\.weight",
                r"quantize\.table\.embedding\.weight",
                r"post_quant_conv\.weight",
            ),
        ),
        StateDict(what="a Gumbel VQGAN tokenizer", has=(r"quantize\.logits\.weight", r"quantize\.codes\.weight")),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
