"""xAR (Ren et al., arXiv:2502.20388): cells of latents, one after the other, each drawn by a flow."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="xar",
    cards=CARDS,
    files=(
        StateDict(
            what="an xAR generator",
            has=(r"encoder_blocks\.0\.ada_lin\.1\.weight", r"pred\.weight", r"time_embed\.mlp\.0\.weight"),
        ),
        StateDict(what="an xAR generator", has=(r"token_out\.weight", r"time\.time_in\.weight", r"encoder_position")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
