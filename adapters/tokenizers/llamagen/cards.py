"""Cards of LlamaGen's tokenizers. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

from ...layers.shipped import shipped

BASE = Card(
    name="tokenizers/llamagen",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.llamagen.adapter:LlamaGenVQ",
    summary="LlamaGen's VQ tokenizer",
    resolution=256,
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="https://github.com/FoundationVision/LlamaGen at ce98ec4",
    trained_on="ImageNet",
)
"""What all sizes have in common."""
_HUGGING_FACE = "https://huggingface.co/FoundationVision/LlamaGen"
WRAPPER = ("ema", "model", "state_dict")
"""In the order in which the official evaluation of reconstructions looks for them."""


def _rfid(value: float, **settings: Any) -> Claim:
    source = "README of FoundationVision/LlamaGen at ce98ec4"
    return Claim(metric="rFID", value=value, settings={"data": "ImageNet val", **settings}, source=source)


MINI = BASE.derive(
    name="tokenizers/llamagen-mini",
    summary="LlamaGen's VQ tokenizer, small, trained on MNIST digits: 8 x 8 tokens of 256 codes",
    config={
        "ch": 32,
        "codebook_size": 256,
        "codebook_embed_dim": 8,
        "codebook_l2_norm": True,
        "encoder_ch_mult": (1, 1, 2),
        "decoder_ch_mult": (1, 1, 2),
        "z_channels": 32,
        "num_res_blocks": 1,
    },
    tokens=TokenSpec.grid(8, 256),
    parameters=815_531,
    **shipped("llamagen-tokenizer-mini.safetensors"),
)

VQ_16 = BASE.derive(
    name="tokenizers/llamagen-vq-16",
    summary="LlamaGen's VQ tokenizer, 16x down, 16384 codes of 8 numbers on the unit sphere",
    config={"encoder_ch_mult": (1, 1, 2, 2, 4), "decoder_ch_mult": (1, 1, 2, 2, 4)},
    tokens=TokenSpec.grid(16, 16384),
    parameters=71_883_403,
    checkpoint=Checkpoint(file="vq_ds16_c2i.pt", source=_HUGGING_FACE, wrapper=WRAPPER),
    published=(_rfid(2.19, image_size=256), _rfid(0.94, image_size=384), _rfid(0.70, image_size=512)),
)

VQ_16_T2I = VQ_16.derive(
    name="tokenizers/llamagen-vq-16-t2i",
    summary="LlamaGen's VQ tokenizer of the text-conditional models, 16x down, 16384 codes of 8 numbers",
    trained_on="LAION-COCO (50M) and internal data (10M)",
    checkpoint=Checkpoint(
        file="vq_ds16_t2i.pt", source="https://huggingface.co/peizesun/llamagen_t2i", wrapper=WRAPPER
    ),
    published=(),
)

VQ_8 = BASE.derive(
    name="tokenizers/llamagen-vq-8",
    summary="LlamaGen's VQ tokenizer, 8x down, 16384 codes of 8 numbers on the unit sphere",
    config={"encoder_ch_mult": (1, 2, 2, 4), "decoder_ch_mult": (1, 2, 2, 4)},
    tokens=TokenSpec.grid(32, 16384),
    parameters=70_109_835,
    checkpoint=Checkpoint(file="vq_ds8_c2i.pt", source=_HUGGING_FACE, wrapper=WRAPPER),
    published=(_rfid(0.59, image_size=256),),
)

CARDS: tuple[Card, ...] = (MINI, VQ_16, VQ_16_T2I, VQ_8)
