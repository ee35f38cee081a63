"""RQ-VAE (Lee et al., CVPR 2022): a grid of residual codes, several at each place."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="rq",
    cards=CARDS,
    files=(
        StateDict(what="an RQ-VAE tokenizer", has=(r"quantizer\.codebooks\.0\.weight", r"post_quant_conv\.weight")),
        StateDict(what="an RQ-VAE tokenizer", has=(r"quantize\.codebooks\.0\.embedding\.weight",)),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
