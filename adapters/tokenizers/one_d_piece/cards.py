"""Cards of One-D-Piece. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

BASE = Card(
    name="tokenizers/one-d-piece",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.one_d_piece.adapter:OneDPiece",
    summary="One-D-Piece",
    resolution=256,
    tokens=TokenSpec(kind="discrete", layout="sequence", levels=((256,),), vocabulary=4096),
    code_licence="Apache-2.0",
    weights_licence="not stated (repository: Apache-2.0)",
    source="https://github.com/turingmotors/One-D-Piece at 473665d",
    trained_on="ImageNet",
)
"""What all sizes have in common."""


def _official(letter: str, size: str, *, parameters: int, rfid: float) -> Card:
    return BASE.derive(
        name=f"tokenizers/one-d-piece-{letter.lower()}-256",
        summary=f"One-D-Piece-{letter}, up to 256 tokens in a row of 4096 codes; the first ones alone decode as well",
        config={
            "class": "OneDPiece",
            "vit_enc_model_size": size,
            "vit_dec_model_size": size,
            "num_latent_tokens": 256,
            "strict_length_assertion": False,
        },
        parameters=parameters,
        checkpoint=Checkpoint(
            file=f"one-d-piece_{letter.lower()}256.bin",
            source=f"https://huggingface.co/turing-motors/One-D-Piece-{letter}-256",
        ),
        published=(
            Claim(
                metric="rFID",
                value=rfid,
                settings={"data": "ImageNet val", "image_size": 256, "tokens": 256},
                source="README of turingmotors/One-D-Piece at 473665d",
            ),
        ),
    )


CARDS: tuple[Card, ...] = (
    _official("S", "small", parameters=83_871_247, rfid=1.48),
    _official("B", "base", parameters=205_256_463, rfid=1.11),
    _official("L", "large", parameters=641_742_863, rfid=1.08),
)
