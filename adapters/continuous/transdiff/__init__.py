"""TransDiff (Zhen et al., arXiv:2506.09482): features of a class, decoded by a diffusion transformer."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="transdiff",
    cards=CARDS,
    files=(
        StateDict(what="a TransDiff generator", has=(r"diffdecoder\.net\.input_proj\.weight",)),
        StateDict(what="a TransDiff generator", has=(r"no_class", r"decoder\.token_in\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
