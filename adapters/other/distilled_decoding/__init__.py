"""Distilled Decoding (Liu et al., arXiv:2412.17153): VAR and LlamaGen in one or two steps, from noise to tokens."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="distilled-decoding",
    cards=CARDS,
    files=(
        StateDict(
            what="a distilled VAR",
            has=(r"final_layer_conti\.linear\.weight", r"word_embed\.weight", r"lvl_embed\.weight"),
        ),
        StateDict(what="a distilled VAR", has=(r"continuous\.out\.weight", r"level_table\.weight")),
        StateDict(what="a distilled LlamaGen", has=(r"final_layer_conti\.linear\.weight", r"tok_embeddings\.weight")),
        StateDict(what="a distilled LlamaGen", has=(r"continuous\.out\.weight", r"vector_in\.weight")),
    ),
    replays={"generator": f"{__name__}.replays:replay"},
)
