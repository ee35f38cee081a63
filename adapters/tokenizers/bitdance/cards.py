"""Cards of BitDance's tokenizer. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

_SETTINGS = {"data": "ImageNet-256"}
_SOURCE = "README of shallowdream204/BitDance"

CARDS: tuple[Card, ...] = (
    Card(
        name="tokenizers/bitdance-d16c32",
        kind="tokenizer",
        family="tokenizers",
        implementation="arbench.adapters.tokenizers.bitdance.adapter:BitDanceTokenizer",
        summary="BitDance's binary tokenizer, 16x down, 32 bits at each place in 4 groups of 8",
        resolution=256,
        config={
            "ddconfig": {
                "double_z": False,
                "z_channels": 32,
                "in_channels": 3,
                "out_ch": 3,
                "ch": 256,
                "ch_mult": (1, 1, 2, 2, 4),
                "num_res_blocks": 4,
            },
            "num_codebooks": 4,
        },
        tokens=TokenSpec(kind="discrete", layout="grid", levels=((16, 16),), vocabulary=256, codebooks=4),
        parameters=460_294_179,
        code_licence="Apache-2.0",
        weights_licence="not stated (repository: Apache-2.0)",
        source="github.com/shallowdream204/BitDance (folder imagenet_gen) at 4c5ea90161b766f63eaa8985999a5a587e935a63",
        checkpoint=Checkpoint(
            file="ae_d16c32.pt",
            source="https://huggingface.co/shallowdream204/BitDance-ImageNet/resolve/main/ae_d16c32.pt",
            wrapper=("state_dict",),
        ),
        published=(
            Claim(metric="psnr", value=24.90, settings=_SETTINGS, source=_SOURCE),
            Claim(metric="ssim", value=0.72, settings=_SETTINGS, source=_SOURCE),
        ),
    ),
)
