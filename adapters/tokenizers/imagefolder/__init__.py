"""ImageFolder's tokenizers (XQ-GAN; Li et al., arXiv:2410.01756): product, residual and plain codes of a ViT."""

from __future__ import annotations

from arbench.protocols import StateDict, System

from .cards import CARDS

SYSTEM = System(
    name="imagefolder",
    cards=CARDS,
    files=(
        StateDict(
            what="an XQ-GAN tokenizer",
            has=(r"encoder\.latent_tokens", r"decoder\.to_pixel\.model\.weight"),
            lacks=(r"encoder\.refined_tokens",),
        ),
        StateDict(what="an XQ-GAN tokenizer", has=(r"encoder\.latents", r"decoder\.pixels\.weight")),
    ),
    replays={"tokenizer": f"{__name__}.adapter:replay"},
)
