"""BitDance's tokenizer (arXiv:2602.14041): the signs of 32 channels at each of 16 x 16 places."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="bitdance",
    cards=CARDS,
    files=(
        StateDict(
            what="a BitDance tokenizer",
            has=(r"decoder\.adaptive\.0\.gamma\.weight", r"encoder\.mid_block\.0\.conv1\.weight"),
            lacks=(r"quantize\..*",),
        ),
        StateDict(what="a BitDance tokenizer", has=(r"decoder\.styles\.0\.gamma\.weight",)),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
