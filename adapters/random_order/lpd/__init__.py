"""LPD (Zhang et al., arXiv:2507.01957): groups of tokens that are far from each other and near to what is known."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="lpd",
    cards=CARDS,
    files=(
        StateDict(what="an LPD generator", has=(r"token_emb\.weight", r"fake_latent", r"z_proj_ln\.weight")),
        StateDict(what="an LPD generator", has=(r"code_table\.weight", r"no_class", r"unknown")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
