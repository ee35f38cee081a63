"""D-AR's tokenizer (Gao and Shou, arXiv:2505.23660): tokens in a row, decoded by diffusion, some tokens a step."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="dar",
    cards=CARDS,
    files=(
        StateDict(what="a D-AR tokenizer", has=(r"query_embedding\.weight", r"diff_decoder\.net\.conv_in\.weight")),
        StateDict(what="a D-AR tokenizer", has=(r"encoder\.queries\.weight", r"narrow\.weight")),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
