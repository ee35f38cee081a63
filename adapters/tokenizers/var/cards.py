"""Cards of VAR's tokenizer. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

from ...layers.shipped import shipped

BASE = Card(
    name="tokenizers/var",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.var.adapter:VARTokenizer",
    summary="VAR's multi-scale residual VQ tokenizer",
    resolution=256,
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="https://github.com/FoundationVision/VAR at 78b9539",
    trained_on="OpenImages",
)
"""What all sizes have in common."""


def _official(name: str, resolution: int, scales: tuple[int, ...], *published: Claim) -> Card:
    tokens = TokenSpec.pyramid(scales, 4096)
    return BASE.derive(
        name=name,
        summary=f"VAR's multi-scale residual VQ tokenizer, 16x down, 4096 codes, {tokens.tokens} tokens in 10 scales",
        resolution=resolution,
        config={"vocab_size": 4096, "z_channels": 32, "ch": 160, "v_patch_nums": scales, "share_quant_resi": 4},
        tokens=tokens,
        parameters=108_948_355,
        checkpoint=Checkpoint(file="vae_ch160v4096z32.pth", source="https://huggingface.co/FoundationVision/var"),
        published=published,
    )


MINI = BASE.derive(
    name="tokenizers/var-mini",
    summary="VAR's multi-scale residual VQ tokenizer, small, trained on MNIST digits: 30 tokens in 4 scales",
    config={
        "vocab_size": 512,
        "z_channels": 16,
        "ch": 32,
        "ch_mult": (1, 1, 2, 2),
        "num_res_blocks": 1,
        "v_patch_nums": (1, 2, 3, 4),
        "share_quant_resi": 4,
    },
    tokens=TokenSpec.pyramid((1, 2, 3, 4), 512),
    parameters=1_112_787,
    **shipped("var-tokenizer-mini.safetensors"),
)

_RFID = Claim(
    metric="rFID",
    value=0.92,
    settings={"data": "ImageNet val", "image_size": 256, "reported_by": "users; the README gives no figure"},
    source="issues 39 and 45 of FoundationVision/VAR",
)
MSVQ = _official("tokenizers/var-msvq", 256, (1, 2, 3, 4, 5, 6, 8, 10, 13, 16), _RFID)
MSVQ_512 = _official("tokenizers/var-msvq-512", 512, (1, 2, 3, 4, 6, 9, 13, 18, 24, 32))

CARDS: tuple[Card, ...] = (MINI, MSVQ, MSVQ_512)
