"""ARPG (Li et al., arXiv:2503.10568): tokens in random order, several in a pass, by cross-attention to those known."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="arpg",
    cards=CARDS,
    files=(
        StateDict(what="an ARPG generator", has=(r"layers\.self_dec\.0\.attn\.to_q\.weight", r"embeddings\.weight")),
        StateDict(what="an ARPG generator", has=(r"readers\.0\.query\.weight", r"table\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
