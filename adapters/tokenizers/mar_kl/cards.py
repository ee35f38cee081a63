"""Cards of MAR's tokenizer. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, TokenSpec

from ...layers.shipped import shipped

BASE = Card(
    name="tokenizers/mar-kl",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.mar_kl.adapter:MARKL",
    summary="MAR's KL autoencoder",
    resolution=256,
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="https://github.com/LTH14/mar at fe470ac",
    trained_on="ImageNet",
)
"""What all sizes have in common."""

MINI = BASE.derive(
    name="tokenizers/mar-kl-mini",
    summary="MAR's KL autoencoder, small, trained on MNIST digits: 4 x 4 tokens of 16 numbers",
    config={
        "embed_dim": 16,
        "ch": 32,
        "ch_mult": (1, 1, 2, 2),
        "num_res_blocks": 1,
        "resolution": 32,
        "attn_resolutions": (4,),
    },
    tokens=TokenSpec.grid(4, channels=16),
    multiple=8,
    parameters=1_067_699,
    **shipped("mar-kl-mini.safetensors"),
)

KL_16 = BASE.derive(
    name="tokenizers/mar-kl-16",
    summary="MAR's KL autoencoder, 16x down, 16 channels; also that of FlowAR, xAR, FAR, ARINAR and TransDiff",
    config={"embed_dim": 16, "ch_mult": (1, 1, 2, 2, 4)},
    tokens=TokenSpec.grid(16, channels=16),
    multiple=16,
    parameters=66_456_019,
    checkpoint=Checkpoint(
        file="kl16.ckpt",
        source="https://www.dropbox.com/scl/fi/hhmuvaiacrarfg28qxhwz/kl16.ckpt?rlkey=l44xipsezc8atcffdp4q7mwmh",
        wrapper=("model",),
    ),
)

CARDS: tuple[Card, ...] = (MINI, KL_16)
