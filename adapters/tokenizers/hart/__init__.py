"""HART's tokenizer (Tang et al., ICLR 2025): multi-scale codes and a continuous residual."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="hart",
    cards=CARDS,
    files=(
        StateDict(
            what="a HART tokenizer", has=(r"vae\.encoder\.down\.0\.block\.0\.norm1\.weight", r"vae\.quantize\..*")
        ),
        StateDict(
            what="a HART tokenizer",
            has=(r"encoder\.levels\.0\.blocks\.0\.norm1\.weight", r"quantize\.codebook\.embedding\.weight"),
        ),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
    training={"tokenizers/hart-mini": f"{__name__}.training:RECIPE"},
)
