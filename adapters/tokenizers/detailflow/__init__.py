"""DetailFlow's tokenizers (Liu et al., arXiv:2505.21473): a row of codes of which the first alone make a picture."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="detailflow",
    cards=CARDS,
    files=(
        StateDict(what="a DetailFlow tokenizer", has=(r"encoder\.visual_model\..*", r"encoder\.refined_tokens")),
        StateDict(what="a DetailFlow tokenizer", has=(r"encoder\.refined", r"decoder\.latent_places")),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
