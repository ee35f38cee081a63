"""Cards of HART's tokenizer. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

from ...layers.shipped import shipped

BASE = Card(
    name="tokenizers/hart",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.hart.adapter:HARTTokenizer",
    summary="HART's hybrid tokenizer",
    resolution=1024,
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="https://github.com/mit-han-lab/hart at e28a41f",
    trained_on="OpenImages",
)
"""What all sizes have in common."""
SCALES = (1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64)
_README = "README of mit-han-lab/hart at e28a41f"

MINI = BASE.derive(
    name="tokenizers/hart-mini",
    summary="HART's hybrid tokenizer, small, trained on MNIST digits: 30 tokens in 4 scales and a residual of 4 x 4",
    config={
        "vocab_size": 512,
        "z_channels": 16,
        "ch": 32,
        "ch_mult": (1, 1, 2, 2),
        "num_res_blocks": 1,
        "quantizer_type": "var_hybrid",
        "v_patch_nums": (1, 2, 3, 4),
        "share_quant_resi": 4,
    },
    tokens=TokenSpec.pyramid((1, 2, 3, 4), 512, channels=16),
    parameters=1_112_787,
    **shipped("hart-tokenizer-mini.safetensors"),
)

HYBRID = BASE.derive(
    name="tokenizers/hart-hybrid",
    summary="HART's hybrid tokenizer, 16x down: 4096 codes in 14 scales and a continuous residual of the last map",
    # config.json is only beside the weights: these are the official class's defaults and the scales of 1024 px
    config={
        "vocab_size": 4096,
        "z_channels": 32,
        "ch": 160,
        "quantizer_type": "var_hybrid",
        "v_patch_nums": SCALES,
    },
    tokens=TokenSpec.pyramid(SCALES, 4096, channels=32),
    parameters=108_948_355,
    checkpoint=Checkpoint(
        file="model.safetensors", source="https://huggingface.co/mit-han-lab/hart-0.7b-1024px, folder tokenizer"
    ),
    published=(
        Claim(metric="rFID", value=0.30, settings={"data": "MJHQ-30K", "decoding": "hybrid"}, source=_README),
        Claim(metric="rFID", value=2.11, settings={"data": "MJHQ-30K", "decoding": "VAR's tokenizer"}, source=_README),
    ),
)

CARDS: tuple[Card, ...] = (MINI, HYBRID)
