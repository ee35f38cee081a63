"""Cards of FlexVAR's tokenizer. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, TokenSpec

SIDES = (1, 2, 3, 4, 5, 7, 10, 13, 16)
"""The scales of the official evaluation at 256 px."""

CARDS: tuple[Card, ...] = (
    Card(
        name="tokenizers/flexvar-vae",
        kind="tokenizer",
        family="tokenizers",
        implementation="arbench.adapters.tokenizers.flexvar.adapter:FlexVARTokenizer",
        summary="FlexVAR's VQ tokenizer, 16x down, 4096 codes of 32 numbers, each scale a picture of its own",
        resolution=256,
        config={
            "codebook_size": 4096,
            "codebook_embed_dim": 32,
            "codebook_l2_norm": True,
            "encoder_ch_mult": (1, 1, 2, 2, 4),
            "decoder_ch_mult": (1, 1, 2, 2, 4),
            "v_patch_nums": SIDES,
        },
        tokens=TokenSpec.pyramid(SIDES, 4096),
        parameters=71_895_715,
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source="github.com/jiaosiyu1999/FlexVAR at 04462cb6e1bbb4524bfcafcd5c5701894a3ac7d1",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file="FlexVAE.pth",
            source="https://huggingface.co/jiaosiyu1999/FlexVAR/resolve/main/FlexVAE.pth",
            wrapper=("model",),
        ),
    ),
)
