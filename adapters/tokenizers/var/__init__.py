"""VAR's tokenizer (Tian et al., NeurIPS 2024): residual codes over maps of growing size."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="var",
    cards=CARDS,
    files=(
        StateDict(
            what="a VAR tokenizer", has=(r"encoder\.down\.0\.block\.0\.norm1\.weight", r"quantize\.quant_resi\..*")
        ),
        StateDict(
            what="a VAR tokenizer",
            has=(r"encoder\.levels\.0\.blocks\.0\.norm1\.weight", r"quantize\.codebook\.embedding\.weight"),
        ),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
    training={"tokenizers/var-mini": f"{__name__}.training:RECIPE"},
)
