"""The GPT of "Taming transformers" (Esser et al., CVPR 2021): tokens one by one in raster order, by class."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="taming",
    cards=CARDS,
    files=(
        StateDict(
            what="a taming GPT",
            has=(r"(transformer\.)?tok_emb\.weight", r"(transformer\.)?pos_emb", r"(transformer\.)?ln_f\.weight"),
        ),
        StateDict(what="a taming GPT", has=(r"table\.weight", r"position", r"blocks\.0\.mlp_in\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
