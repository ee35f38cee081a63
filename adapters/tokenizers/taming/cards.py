"""Cards of taming's VQGANs. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

BASE = Card(
    name="tokenizers/taming",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.taming.adapter:VQGAN",
    summary="VQGAN",
    resolution=256,
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="https://github.com/CompVis/taming-transformers at 3ba01b2",
    trained_on="ImageNet",
)
"""What all sizes have in common."""
_README = "README of CompVis/taming-transformers at 3ba01b2"
_HEIBOX = "https://heibox.uni-heidelberg.de/d/"


def _rfid(validation: float, training: float, data: str) -> tuple[Claim, Claim]:
    return (
        Claim(metric="rFID", value=validation, settings={"data": f"{data} val"}, source=_README),
        Claim(metric="rFID", value=training, settings={"data": f"{data} train"}, source=_README),
    )


F16_1024 = BASE.derive(
    name="tokenizers/taming-f16-1024",
    summary="VQGAN, 16x down, 1024 codes of 256 numbers",
    config={"class": "VQModel", "embed_dim": 256, "n_embed": 1024, "ddconfig": {}},
    tokens=TokenSpec.grid(16, 1024),
    parameters=72_141_699,
    checkpoint=Checkpoint(
        file="vqgan_imagenet_f16_1024.ckpt", source=f"{_HEIBOX}8088892a516d4e3baf92/", wrapper=("state_dict",)
    ),
    published=_rfid(10.54, 7.94, "ImageNet"),
)

F16_16384 = BASE.derive(
    name="tokenizers/taming-f16-16384",
    summary="VQGAN, 16x down, 16384 codes of 256 numbers",
    config={"class": "VQModel", "embed_dim": 256, "n_embed": 16384, "ddconfig": {}},
    tokens=TokenSpec.grid(16, 16384),
    parameters=76_073_859,
    checkpoint=Checkpoint(
        file="vqgan_imagenet_f16_16384.ckpt", source=f"{_HEIBOX}a7530b09fed84f80a887/", wrapper=("state_dict",)
    ),
    published=_rfid(7.41, 4.98, "ImageNet"),
)

GUMBEL_F8 = BASE.derive(
    name="tokenizers/taming-gumbel-f8",
    summary="VQGAN with Gumbel logits in place of distances, 8x down, 8192 codes of 256 numbers",
    config={
        "class": "GumbelVQ",
        "embed_dim": 256,
        "n_embed": 8192,
        "ddconfig": {"ch_mult": (1, 1, 2, 4), "attn_resolutions": (32,)},
    },
    tokens=TokenSpec.grid(32, 8192),
    parameters=68_995_971,
    trained_on="OpenImages",
    checkpoint=Checkpoint(
        file="vqgan_gumbel_f8.ckpt", source=f"{_HEIBOX}2e5662443a6b4307b470/", wrapper=("state_dict",)
    ),
    published=_rfid(3.24, 1.49, "ImageNet"),
)

CARDS: tuple[Card, ...] = (F16_1024, F16_16384, GUMBEL_F8)
