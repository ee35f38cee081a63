"""Cards of DetailFlow's tokenizers. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec


def _official(groups: int, *, rfid: float, parameters: int) -> Card:
    tokens = 8 * groups
    return Card(
        name=f"tokenizers/detailflow-{groups}",
        kind="tokenizer",
        family="tokenizers",
        implementation="arbench.adapters.tokenizers.detailflow.adapter:DetailFlow",
        summary=f"DetailFlow-{groups}, {tokens} tokens in a row of 8192 codes, coarse to fine; the first alone decode",
        resolution=256,
        config={
            "image_size": 256,
            "codebook_size": 8192,
            "codebook_embed_dim": 8,
            "num_latent_tokens": tokens,
            "enc_pretrained": True,
            "dec_pretrained": False,
            "causal_encoder": True,
            "causal_decoder": False,
            "group_size": 8,
            "causal_num": None,
        },
        tokens=TokenSpec(kind="discrete", layout="sequence", levels=((tokens,),), vocabulary=8192),
        parameters=parameters,
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        source="github.com/ByteFlow-AI/DetailFlow at c5f06cdc99b5675550debac38eae818ee86066a0",
        trained_on="ImageNet-1k (the encoder begins as SigLIP 2)",
        checkpoint=Checkpoint(
            file=f"checkpoints/{tokens}.pt",
            source=f"https://huggingface.co/ByteVisionLab/DetailFlow-{groups}",
            wrapper=("model", "ema"),
        ),
        published=(
            Claim(
                metric="rFID",
                value=rfid,
                settings={"data": "ImageNet val", "image_size": 256, "tokens": tokens},
                source="README of ByteFlow-AI/DetailFlow at c5f06cd",
            ),
        ),
    )


CARDS: tuple[Card, ...] = (
    _official(16, rfid=1.13, parameters=270_533_832),
    _official(32, rfid=0.80, parameters=271_074_504),
    _official(64, rfid=0.52, parameters=272_155_848),
)
