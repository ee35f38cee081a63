"""FAR (Yu et al., arXiv:2503.05305): all latents at once, from low to high spatial frequencies."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="far",
    cards=CARDS,
    files=(
        StateDict(what="a FAR generator", has=(r"diffloss\.net\.index_cond_embed\.weight",)),
        StateDict(what="a FAR generator", has=(r"no_class", r"head\.index_in\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
