"""FractalGen (Li et al., arXiv:2502.17437): pixels by generators within generators, autoregressive or masked."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="fractalgen",
    cards=CARDS,
    files=(
        StateDict(what="a FractalGen generator", has=(r"next_fractal\..*\.r_codebook\.weight",)),
        StateDict(what="a FractalGen generator", has=(r"next\..*\.codes\.0\.weight", r"generator\.patch_in\.weight")),
    ),
    replays={"generator": f"{__name__}.adapter:replay"},
)
