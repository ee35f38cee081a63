"""ACDiT (Hu et al., arXiv:2412.07720): blocks of latents one after the other, each drawn by a diffusion transformer."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="acdit",
    cards=CARDS,
    files=(
        StateDict(
            what="an ACDiT generator",
            has=(r"blocks\.0\.attn\.qkv\.weight", r"y_embedder\.embedding_table\.weight", r"x_embedder\.weight"),
        ),
        StateDict(what="an ACDiT generator", has=(r"time\.time_in\.weight", r"modulation_out\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
