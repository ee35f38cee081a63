"""Cards of Infinity. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Guidance, Sampling, TextEncoder, TokenSpec

SIDES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)
"""Of square images of a million pixels."""

_SETTINGS: dict[str, Any] = {"cfg": 4, "tau": 1.0, "top_k": 900, "top_p": 0.97, "cfg_insertion_layer": 0}

CARDS: tuple[Card, ...] = (
    Card(
        name="next_scale/infinity-2b",
        kind="generator",
        family="next_scale",
        implementation="arbench.adapters.next_scale.infinity.adapter:Infinity",
        summary="Infinity 2B, captions at 1024 px, 13 scales of 32 bits a place",
        resolution=1024,
        config={
            "codebook_dim": 32,
            "text_channels": 2048,
            "text_maxlen": 512,
            "shared_aln": True,
            "embed_dim": 2048,
            "depth": 32,
            "num_heads": 16,
            "block_chunks": 8,
            "rope2d_normalized_by_hw": 2,
            "cross_attn_layer_scale": 1.0,
            "cos_attn": True,
            "scale_schedule": tuple((1, side, side) for side in SIDES),
        },
        condition="text",
        captions=(512, 2048),
        text_encoder=TextEncoder(name="google/flan-t5-xl", licence="Apache-2.0"),
        tokenizer="tokenizers/infinity-d32-reg",
        tokens=TokenSpec(
            kind="discrete",
            layout="pyramid",
            levels=tuple((side, side) for side in SIDES),
            vocabulary=2,
            codebooks=32,
        ),
        supports=frozenset({"guidance", "temperature", "top_p"}),
        choices={"guidance.schedule": ("constant",)},
        native=Sampling(guidance=Guidance(scale=4.0), top_p=0.97),
        upstream_settings=_SETTINGS,
        parameters=2_204_629_568,
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source="github.com/FoundationVision/Infinity at 4c27bbb54a9918847a2fe56b0fbe31a8523791a1",
        checkpoint=Checkpoint(
            file="infinity_2b_reg.pth",
            source="https://huggingface.co/FoundationVision/infinity/resolve/main/infinity_2b_reg.pth",
        ),
    ),
)
