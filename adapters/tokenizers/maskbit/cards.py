"""Cards of MaskBit's tokenizers. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

BASE = Card(
    name="tokenizers/maskbit",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.maskbit.adapter:MaskBitVQ",
    summary="MaskBit's tokenizer",
    resolution=256,
    code_licence="Apache-2.0",
    weights_licence="not stated (repository: Apache-2.0; its README: for research purposes only)",
    source="https://github.com/markweberdev/maskbit at 5ea3d73",
    trained_on="ImageNet",
)
"""What all sizes have in common."""


def _official(
    name: str, summary: str, file: str, *, config: dict[str, Any], parameters: int, figures: tuple[float, ...]
) -> Card:
    """`figures` are rFID, reconstructions' Inception Score, PSNR and SSIM."""
    source = "README of markweberdev/maskbit at 5ea3d73"
    settings = {"data": "ImageNet val", "image_size": 256}
    return BASE.derive(
        name=f"tokenizers/maskbit-{name}",
        summary=summary,
        config=config,
        tokens=TokenSpec.grid(16, config["codebook_size"]),
        parameters=parameters,
        checkpoint=Checkpoint(file=f"{file}.bin", source=f"https://huggingface.co/markweber/{file}"),
        published=tuple(
            Claim(metric=metric, value=value, settings=settings, source=source)
            for metric, value in zip(("rFID", "is", "PSNR", "SSIM"), figures, strict=True)
        ),
    )


def _bits(bits: int, *, parameters: int, figures: tuple[float, ...]) -> Card:
    return _official(
        f"{bits}bit",
        f"MaskBit's tokenizer, 16x down, {bits} bits a token, no codebook",
        f"maskbit_tokenizer_{bits}bit",
        config={"quantizer_type": "lookup-free", "codebook_size": 2**bits, "token_size": bits},
        parameters=parameters,
        figures=figures,
    )


CARDS: tuple[Card, ...] = (
    _bits(10, parameters=54_469_005, figures=(1.76, 177.6, 20.8, 0.53)),
    _bits(12, parameters=54_479_247, figures=(1.52, 184.3, 21.2, 0.55)),
    _bits(14, parameters=54_489_489, figures=(1.37, 190.3, 21.5, 0.56)),
    _bits(16, parameters=54_499_731, figures=(1.29, 193.6, 21.8, 0.58)),
    _bits(18, parameters=54_509_973, figures=(1.16, 197.8, 22.0, 0.59)),
    _official(
        "vqgan-plus-10bit",
        "VQGAN+, 16x down, 1024 codes of 256 numbers (of the paper)",
        "vqgan_plus_paper",
        config={"quantizer_type": "lookup", "codebook_size": 1024, "token_size": 256},
        parameters=55_990_915,
        figures=(1.67, 186.5, 20.9, 0.53),
    ),
    _official(
        "vqgan-plus-12bit",
        "VQGAN+, 16x down, 4096 codes of 64 numbers",
        "vqgan_plus_12bit",
        config={"quantizer_type": "lookup", "codebook_size": 4096, "token_size": 64},
        parameters=55_007_683,
        figures=(1.39, 193.9, 21.0, 0.55),
    ),
)
