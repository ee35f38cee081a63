"""Cards of Open-MAGVIT2's tokenizers. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

BASE = Card(
    name="tokenizers/open-magvit2",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.open_magvit2.adapter:OpenMAGVIT2",
    summary="Open-MAGVIT2",
    resolution=256,
    code_licence="Apache-2.0",
    weights_licence="not stated (repository: Apache-2.0)",
    source="https://github.com/TencentARC/SEED-Voken at b9a17ea",
    trained_on="ImageNet",
)
"""What all sizes have in common."""
_HUGGING_FACE = "https://huggingface.co/TencentARC/Open-MAGVIT2-Tokenizer"


def _claims(rfid: float, psnr: float, size: int) -> tuple[Claim, ...]:
    source = "docs/Open-MAGVIT2.md of TencentARC/SEED-Voken at b9a17ea"
    settings: dict[str, Any] = {"data": "ImageNet val", "image_size": size}
    return (
        Claim(metric="rFID", value=rfid, settings=settings, source=source),
        Claim(metric="PSNR", value=psnr, settings=settings, source=source),
    )


def _official(
    name: str, bits: int, factor: int, place: str, *, parameters: int, figures: tuple[float, float], **more: Any
) -> Card:
    resolution = 16 * factor
    coder: dict[str, Any] = {"z_channels": bits, "num_res_blocks": 4}
    if factor == 8:
        coder["ch_mult"] = (1, 2, 2, 4)
    repository, _, file = place.partition("/")
    return BASE.derive(
        name=f"tokenizers/open-magvit2-{name}",
        summary=f"Open-MAGVIT2, {factor}x down, {bits} bits a token, no codebook",
        resolution=resolution,
        config={"class": "VQModel", "embed_dim": bits, "n_embed": 2**bits, "ddconfig": coder},
        tokens=TokenSpec.grid(16, 2**bits),
        parameters=parameters,
        checkpoint=Checkpoint(file=file, source=f"{_HUGGING_FACE}-{repository}", wrapper=("state_dict",)),
        published=_claims(*figures, resolution),
        **more,
    )


PUBLIC = "100 million public images"

CARDS: tuple[Card, ...] = (
    _official("256", 18, 16, "256-resolution/imagenet_256_L.ckpt", parameters=115_127_829, figures=(1.17, 21.90)),
    _official("128", 18, 8, "128-resolution/imagenet_128_L.ckpt", parameters=112_021_653, figures=(1.18, 25.08)),
    _official(
        "pretrain-16384",
        14,
        16,
        "16384-Pretrain/pretrain256_16384.ckpt",
        parameters=115_094_033,
        figures=(2.55, 22.21),
        trained_on=PUBLIC,
    ),
    _official(
        "pretrain-262144",
        18,
        16,
        "262144-Pretrain/pretrain256_262144.ckpt",
        parameters=115_127_829,
        figures=(1.67, 22.70),
        trained_on=PUBLIC,
    ),
)
