"""Cards of D-AR's tokenizer. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

DAR = Card(
    name="tokenizers/dar-v1",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.dar.adapter:DARTokenizer",
    summary="D-AR's tokenizer, 256 tokens in a row of 16384 codes, decoded by 8 steps of diffusion, 32 tokens a step",
    resolution=256,
    config={"diff_decoder": {"data_std": 0.6, "time_shift": 2}},
    tokens=TokenSpec(kind="discrete", layout="sequence", levels=((256,),), vocabulary=16384),
    parameters=300_099_776,
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="https://github.com/showlab/D-AR at 3fb0f2d",
    trained_on="ImageNet",
    checkpoint=Checkpoint(
        file="D-AR-tokenizer_v1.pt",
        source="https://huggingface.co/showlab/D-AR/resolve/main/D-AR-tokenizer_v1.pt",
        wrapper=("ema", "model"),
    ),
    published=(
        Claim(
            metric="rFID",
            value=1.52,
            settings={"data": "ImageNet val", "image_size": 256},
            source="README of showlab/D-AR at 3fb0f2d",
        ),
    ),
)

CARDS: tuple[Card, ...] = (DAR,)
