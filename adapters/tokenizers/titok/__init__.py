"""TiTok's tokenizers (Yu et al., NeurIPS 2024): an image as 32 to 256 tokens in a row."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="titok",
    cards=CARDS,
    files=(
        StateDict(
            what="a TiTok tokenizer",
            has=(r"latent_tokens", r"encoder\.latent_token_positional_embedding"),
            lacks=(r"decoder\.text_guidance_positional_embedding",),
        ),
        StateDict(
            what="a TiTok tokenizer",
            has=(r"encoder\.token_places", r"decoder\.token_places"),
            lacks=(r"decoder\.text_places",),
        ),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
    training={"tokenizers/titok-mini": f"{__name__}.training:RECIPE"},
)
