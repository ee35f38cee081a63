"""RAR (Yu et al., arXiv:2411.00776): trained on shuffled orders, sampled in raster order."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="rar",
    cards=CARDS,
    files=(
        StateDict(what="a RAR generator", has=(r"target_aware_pos_embed", r"timesteps_embeddings")),
        StateDict(what="a RAR generator", has=(r"table\.weight", r"targets", r"steps")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
    training={"random_order/rar-mini": f"{__name__}.training:RECIPE"},
)
