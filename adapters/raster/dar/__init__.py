"""D-AR (Gao and Shou, arXiv:2505.23660): next-token prediction over the tokens of a diffusion decoder."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="dar",
    cards=CARDS,
    files=(  # the same weights as LlamaGen's, with other positions
        StateDict(
            what="a LlamaGen generator",
            has=(r"cls_embedding\.embedding_table\.weight", r"tok_embeddings\.weight"),
            lacks=(r"pos_instruct_embeddings",),
        ),
        StateDict(
            what="a LlamaGen generator",
            has=(r"class_table\.weight", r"token_table\.weight"),
            lacks=(r"instruction",),
        ),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
