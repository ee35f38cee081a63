"""LlamaGen (Sun et al., arXiv:2406.06525): tokens one by one in raster order, by class or caption."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

OTHERS = (
    *(r"pos_instruct_embeddings", r"spe_tok_embeddings\..*", r"medusa_output\.weight"),
    *(r"final_layer_conti\.linear\.weight", r"continuous\.out\.weight"),
    *(r"instruction", r"bridge\.weight", r"below\.weight"),
)
"""Keys of systems that build on this network: RandAR, PAR, NAR, Distilled Decoding."""

SYSTEM = System(
    name="llamagen",
    cards=CARDS,
    files=(
        StateDict(
            what="a LlamaGen generator",
            has=(r"tok_embeddings\.weight", r"layers\.0\.attention\.wqkv\.weight"),
            lacks=(r"cls_embedding\.cap_proj\.fc1\.weight", *OTHERS),
        ),
        StateDict(
            what="a LlamaGen text-to-image generator",
            has=(r"tok_embeddings\.weight", r"cls_embedding\.cap_proj\.fc1\.weight"),
            lacks=OTHERS,
        ),
        StateDict(
            what="a LlamaGen generator",
            has=(r"token_table\.weight", r"blocks\.0\.qkv\.weight"),
            lacks=(r"null_caption", *OTHERS),
        ),
        StateDict(
            what="a LlamaGen text-to-image generator",
            has=(r"token_table\.weight", r"null_caption"),
            lacks=OTHERS,
        ),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
    training={"raster/llamagen-mini": f"{__name__}.training:RECIPE"},
)
