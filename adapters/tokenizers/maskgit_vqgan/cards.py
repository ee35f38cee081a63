"""Card of MaskGIT's VQGAN. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

MASKGIT_VQGAN = Card(
    name="tokenizers/maskgit-vqgan",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.maskgit_vqgan.adapter:MaskGITVQGAN",
    summary="MaskGIT's VQGAN, 16x down, 1024 codes of 256 numbers, no attention; the tokenizer of RAR",
    resolution=256,
    config={
        "channel_mult": (1, 1, 2, 2, 4),
        "num_resolutions": 5,
        "hidden_channels": 128,
        "num_channels": 3,
        "num_res_blocks": 2,
        "z_channels": 256,
        "num_embeddings": 1024,
    },
    tokens=TokenSpec.grid(16, 1024),
    parameters=54_515_587,
    code_licence="Apache-2.0",
    weights_licence="not stated (repository: Apache-2.0)",
    source="https://github.com/bytedance/1d-tokenizer at 942a96f",
    trained_on="ImageNet",
    checkpoint=Checkpoint(
        file="maskgit-vqgan-imagenet-f16-256.bin",
        source="https://huggingface.co/fun-research/TiTok/resolve/main/maskgit-vqgan-imagenet-f16-256.bin",
    ),
    published=(
        Claim(
            metric="rFID",
            value=2.28,
            settings={"data": "ImageNet val", "image_size": 256},
            source="README of google-research/maskgit",
        ),
    ),
)

CARDS: tuple[Card, ...] = (MASKGIT_VQGAN,)
