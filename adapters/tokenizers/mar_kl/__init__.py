"""MAR's KL autoencoder (Li et al., NeurIPS 2024): one grid of continuous latents."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="mar",
    cards=CARDS,
    files=(
        StateDict(
            what="a KL autoencoder tokenizer",
            has=(r"encoder\.down\.0\.block\.0\.norm1\.weight", r"post_quant_conv\.weight"),
            lacks=(r"quantize.*",),
        ),
        StateDict(
            what="a KL autoencoder tokenizer",
            has=(r"encoder\.levels\.0\.blocks\.0\.norm1\.weight", r"post_quant_conv\.weight"),
            lacks=(r"quantize.*",),
        ),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
    training={"tokenizers/mar-kl-mini": f"{__name__}.training:RECIPE"},
)
