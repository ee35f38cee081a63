"""TA-TiTok's tokenizers (Kim et al., arXiv:2501.07730): TiTok whose decoder also reads a caption."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="tatitok",
    cards=CARDS,
    files=(
        StateDict(what="a TA-TiTok tokenizer", has=(r"latent_tokens", r"decoder\.text_guidance_positional_embedding")),
        StateDict(what="a TA-TiTok tokenizer", has=(r"encoder\.token_places", r"decoder\.text_places")),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
