"""Cards of ImageFolder's tokenizers. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

BASE = Card(
    name="tokenizers/imagefolder",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.imagefolder.adapter:ImageFolder",
    summary="ImageFolder",
    resolution=256,
    code_licence="Adobe Research, non-commercial",
    weights_licence="Adobe Research, non-commercial",
    source="https://github.com/lxa9867/ImageFolder at 76ddfb9",
    trained_on="ImageNet",
)
"""What all sizes have in common."""
SCALES = (1, 1, 2, 3, 3, 4, 5, 6, 8, 11)


def _official(
    name: str,
    place: str,
    *,
    codes: int,
    channels: int,
    branches: int,
    scales: tuple[int, ...],
    parameters: int,
    rfid: float,
    lfq: bool = False,
) -> Card:
    """`place` is that of the file among the repositories of one user."""
    side = scales[-1]
    maps = f"{len(scales)} maps up to {side} x {side}" if len(scales) > 1 else f"{side} x {side} tokens"
    kind = f"{channels} bits" if lfq else f"{codes} codes of {channels} numbers"
    config: dict[str, Any] = {
        "class": "VQModel",
        "codebook_size": codes,
        "codebook_embed_dim": channels,
        "enc_type": "dinov2",
        "dec_type": "dinov2",
        "encoder_model": "vit_base_patch14_dinov2.lvd142m",
        "decoder_model": "vit_base_patch14_dinov2.lvd142m",
        "num_latent_tokens": side * side,
        "abs_pos_embed": True,
        "product_quant": branches,
        "v_patch_nums": scales,
    }
    return BASE.derive(
        name=f"tokenizers/imagefolder-{name}",
        summary=f"ImageFolder's {name.upper()}, {maps}{f' in {branches} branches' if branches > 1 else ''}, {kind}",
        config=config | ({"lfq": True} if lfq else {}),
        tokens=TokenSpec(
            kind="discrete",
            layout="pyramid" if len(scales) > 1 else "grid",
            levels=tuple((each, each) for each in scales),
            vocabulary=codes,
            codebooks=branches,
        ),
        parameters=parameters,
        checkpoint=Checkpoint(
            file=f"imagefolder/{name}.pt",
            source=f"https://huggingface.co/qiuk6/{place}",
            wrapper=("ema", "model"),
        ),
        published=(
            Claim(
                metric="rFID",
                value=rfid,
                settings={"data": "ImageNet val", "image_size": 256},
                source="README of lxa9867/ImageFolder at 76ddfb9",
            ),
        ),
    )


def _plain(codes: int, channels: int, *, parameters: int, rfid: float) -> Card:
    place = f"RobustTok/resolve/main/XQGAN-{codes}.pt"
    return _official(
        f"vq-{codes}",
        place,
        codes=codes,
        channels=channels,
        branches=1,
        scales=(16,),
        parameters=parameters,
        rfid=rfid,
    )


def _folded(
    name: str, folder: str, codes: int, channels: int, *, parameters: int, rfid: float, scales: tuple[int, ...] = SCALES
) -> Card:
    return _official(
        f"{name}-{codes}",
        f"XQ-GAN/resolve/main/{folder}-{codes}/best_ckpt.pt",
        codes=codes,
        channels=channels,
        branches=2,
        scales=scales,
        parameters=parameters,
        rfid=rfid,
        lfq=name.startswith("msb"),
    )


CARDS: tuple[Card, ...] = (
    _plain(4096, 64, parameters=172_288_064, rfid=0.91),
    _plain(8192, 32, parameters=172_238_880, rfid=0.81),
    _folded("vp2", "vq", 4096, 32, parameters=172_460_832, rfid=0.90, scales=(16,)),
    _folded("vp2", "vq", 16384, 32, parameters=173_247_264, rfid=0.64, scales=(16,)),
    _folded("msbr10p2", "MSBR10P2", 4096, 12, parameters=171_955_692, rfid=0.86),
    _folded("msbr10p2", "MSBR10P2", 16384, 14, parameters=171_964_062, rfid=0.78),
    _folded("msvr10p2", "MSVR10P2", 4096, 32, parameters=172_327_456, rfid=0.80),
    _folded("msvr10p2", "MSVR10P2", 8192, 32, parameters=172_589_600, rfid=0.70),
    _folded("msvr10p2", "MSVR10P2", 16384, 32, parameters=173_113_888, rfid=0.67),
)
