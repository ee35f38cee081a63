"""Open-MAGVIT2's tokenizers (Luo et al., arXiv:2409.04410): bits without a codebook."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="open_magvit2",
    cards=CARDS,
    files=(
        StateDict(
            what="an Open-MAGVIT2 tokenizer", has=(r"encoder\.mid_block\.0\.norm1\.weight", r"decoder\.adaptive\.0\..*")
        ),
        StateDict(
            what="an Open-MAGVIT2 tokenizer",
            has=(r"encoder\.middle\.0\.norm1\.weight", r"decoder\.styles\.0\.scale\.weight"),
            lacks=(r"writer\..*",),
        ),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
