"""Cards of ARINAR. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

_SETTINGS: dict[str, Any] = {"num_iter": 64, "cfg": 4.5, "cfg_schedule": "linear", "temperature": 1.0}

CARDS: tuple[Card, ...] = (
    Card(
        name="continuous/arinar-base",
        kind="generator",
        family="continuous",
        implementation="arbench.adapters.continuous.arinar.adapter:ARINAR",
        summary="ARINAR-B, ImageNet classes at 256 px, 256 tokens in random order, each drawn number by number",
        resolution=256,
        config={
            "encoder_embed_dim": 768,
            "encoder_depth": 12,
            "encoder_num_heads": 12,
            "decoder_embed_dim": 768,
            "decoder_depth": 12,
            "decoder_num_heads": 12,
            # what the README's command builds; it counts 213M, and a strict load tells where the file differs
            "num_gaussians": 4,
            "inner_ar_width": 1024,
            "inner_ar_depth": 1,
        },
        condition="class",
        classes=1000,
        tokenizer="tokenizers/mar-kl-16",
        tokens=TokenSpec.grid(16, channels=16),
        supports=frozenset({"guidance", "temperature", "steps"}),
        choices={"guidance.schedule": ("constant", "linear")},
        limits={"steps": (1, 256)},
        native=Sampling(guidance=Guidance(scale=4.5, schedule="linear"), steps=64),
        upstream_settings=_SETTINGS,
        parameters=191_884_812,
        code_licence="not stated",
        weights_licence="not stated",
        source="github.com/Qinyu-Allen-Zhao/Arinar at ced03e5f93fc35bdadd6ff05dd64076cc65b23f8",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file="mar_base_arinar_4_w768_d1/checkpoint-last.pth",
            source="https://drive.google.com/drive/folders/1Mq5SbG-oKPOwmaz3i-9d8PKpW12yPdRE",
            wrapper=("model_ema", "model"),
        ),
        published=(
            Claim(
                metric="fid",
                value=2.75,
                settings={**_SETTINGS, "images": 50000, "evaluator": "torch-fidelity (fork)"},
                source="README of Qinyu-Allen-Zhao/Arinar",
            ),
        ),
    ),
)
