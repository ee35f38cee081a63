"""Cards of Infinity's tokenizers. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

SIDES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)
"""Of square images of a million pixels."""


def _official(name: str, bits: int, file: str, *, parameters: int, rfid: float, psnr: float) -> Card:
    """Figures are the README's on ImageNet at 256 px."""
    settings = {"data": "ImageNet-256"}
    source = "README of FoundationVision/Infinity"
    return Card(
        name=f"tokenizers/infinity-{name}",
        kind="tokenizer",
        family="tokenizers",
        implementation="arbench.adapters.tokenizers.infinity.adapter:InfinityTokenizer",
        summary=f"Infinity's bitwise tokenizer, 16x down, {bits} bits at each place of 13 scales",
        resolution=1024,
        config={
            "codebook_dim": bits,
            "base_ch": 128,
            "num_res_blocks": 2,
            "patch_size": 16,
            "encoder_ch_mult": (1, 2, 4, 4, 4),
            "decoder_ch_mult": (1, 2, 4, 4, 4),
            "sides": SIDES,
        },
        tokens=TokenSpec(
            kind="discrete",
            layout="pyramid",
            levels=tuple((side, side) for side in SIDES),
            vocabulary=2,
            codebooks=bits,
        ),
        parameters=parameters,
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source="github.com/FoundationVision/Infinity at 4c27bbb54a9918847a2fe56b0fbe31a8523791a1",
        checkpoint=Checkpoint(
            file=file,
            source=f"https://huggingface.co/FoundationVision/Infinity/resolve/main/{file}",
            wrapper=("vae",),
        ),
        published=(
            Claim(metric="rFID", value=rfid, settings=settings, source=source),
            Claim(metric="psnr", value=psnr, settings=settings, source=source),
        ),
    )


CARDS: tuple[Card, ...] = (
    _official("d16", 16, "infinity_vae_d16.pth", parameters=109_970_579, rfid=1.22, psnr=20.9),
    _official("d24", 24, "infinity_vae_d24.pth", parameters=110_044_315, rfid=0.75, psnr=22.0),
    _official("d32", 32, "infinity_vae_d32.pth", parameters=110_118_051, rfid=0.61, psnr=22.7),
    _official("d64", 64, "infinity_vae_d64.pth", parameters=110_412_995, rfid=0.33, psnr=24.9),
    _official("d32-reg", 32, "infinity_vae_d32reg.pth", parameters=110_118_051, rfid=0.75, psnr=21.9),
)
