"""One-D-Piece's tokenizers (arXiv:2501.10064): TiTok of any number of first tokens; its files look the same."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="one_d_piece",
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
)
