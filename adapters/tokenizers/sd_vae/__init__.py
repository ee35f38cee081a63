"""Stable Diffusion's autoencoder (Rombach et al., CVPR 2022), as Diffusers keeps it: four numbers for 8 x 8 pixels."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="sd_vae",
    cards=CARDS,
    files=(
        # by our names it cannot be told from MAR's
        StateDict(
            what="a KL autoencoder tokenizer",
            has=(r"encoder\.down_blocks\.0\.resnets\.0\.norm1\.weight", r"post_quant_conv\.weight"),
        ),
    ),
)
