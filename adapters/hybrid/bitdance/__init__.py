"""BitDance (arXiv:2602.14041): binary tokens, one or a group at a time, drawn by diffusion and then signed."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="bitdance",
    cards=CARDS,
    files=(
        StateDict(what="a BitDance generator", has=(r"pos_for_diff\.weight", r"head\.net\.input_proj\.weight")),
        StateDict(what="a BitDance generator", has=(r"state_position\.weight", r"head\.token_in\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
