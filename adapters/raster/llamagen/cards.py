"""Cards of LlamaGen. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TextEncoder, TokenSpec

from ...layers.shipped import shipped

BASE = Card(
    name="raster/llamagen",
    kind="generator",
    family="raster",
    implementation="arbench.adapters.raster.llamagen.adapter:LlamaGen",
    summary="LlamaGen",
    resolution=256,
    condition="class",
    classes=1000,
    tokenizer="tokenizers/llamagen-vq-16",
    supports=frozenset({"guidance", "temperature", "top_k", "top_p"}),
    choices={"guidance.schedule": ("constant",)},
    offers=frozenset({"scores"}),
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="github.com/FoundationVision/LlamaGen at ce98ec41803a74a90ce68c40ababa9eaeffeb4ec",
    trained_on="ImageNet-1k",
)
"""What all sizes have in common."""
WRAPPER = ("model", "module", "state_dict")


def _official(
    size: str,
    resolution: int,
    *,
    shape: tuple[int, int, int],
    parameters: int,
    cfg_scale: float,
    fid: float,
) -> Card:
    """`shape` is (n_layer, n_head, dim); `fid` the README's, at 256 x 256."""
    layers, heads, width = shape
    side = resolution // 16
    file = f"c2i_{size.upper()}_{resolution}.pt"
    settings = {"cfg_scale": cfg_scale, "cfg_interval": -1, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
    measured: dict[str, Any] = {"images": 50000, "image_size": resolution, "image_size_eval": 256}
    measured |= {"evaluator": "ADM", "precision": "bf16"}
    return BASE.derive(
        name=f"raster/llamagen-{size}-{resolution}",
        summary=f"LlamaGen-{size.upper()}, ImageNet classes, {side} x {side} tokens one by one",
        resolution=resolution,
        config={"dim": width, "n_layer": layers, "n_head": heads, "block_size": side * side},
        tokens=TokenSpec.grid(side, 16384),
        native=Sampling(guidance=Guidance(scale=cfg_scale)),
        upstream_settings=settings,
        parameters=parameters,
        checkpoint=Checkpoint(
            file=file, source=f"https://huggingface.co/FoundationVision/LlamaGen/resolve/main/{file}", wrapper=WRAPPER
        ),
        published=(
            Claim(
                metric="fid",
                value=fid,
                settings={**settings, **measured},
                source="README of FoundationVision/LlamaGen",
            ),
        ),
    )


def _captioned(stage: int, resolution: int, trained_on: str) -> Card:
    """The text-conditional XL of one training stage."""
    side = resolution // 16
    file = f"t2i_XL_stage{stage}_{resolution}.pt"
    settings = {"cfg_scale": 7.5, "cfg_interval": -1, "top_k": 1000, "top_p": 1.0, "temperature": 1.0}
    return BASE.derive(
        name=f"raster/llamagen-t2i-xl-{resolution}",
        summary=f"LlamaGen-XL, captions, stage {stage}, {side} x {side} tokens one by one",
        resolution=resolution,
        config={
            "dim": 1280,
            "n_layer": 36,
            "n_head": 20,
            "block_size": side * side,
            "model_type": "t2i",
            "cls_token_num": 120,
            "caption_dim": 2048,
        },
        condition="text",
        classes=None,
        captions=(120, 2048),
        text_encoder=TextEncoder(name="google/flan-t5-xl", licence="Apache-2.0", lower=True),
        tokenizer="tokenizers/llamagen-vq-16-t2i",
        tokens=TokenSpec.grid(side, 16384),
        native=Sampling(guidance=Guidance(scale=7.5), top_k=1000),
        upstream_settings={**settings, "text_encoder": "flan-t5-xl", "text_tokens": 120},
        parameters=777_923_840,
        trained_on=trained_on,
        checkpoint=Checkpoint(
            file=file, source=f"https://huggingface.co/peizesun/llamagen_t2i/resolve/main/{file}", wrapper=WRAPPER
        ),
    )


MINI = BASE.derive(
    name="raster/llamagen-mini",
    summary="LlamaGen, small, trained on MNIST digits: 8 x 8 tokens one by one",
    config={
        "dim": 128,
        "n_layer": 4,
        "n_head": 4,
        "multiple_of": 32,
        "num_classes": 10,
        "vocab_size": 256,
        "block_size": 64,
    },
    classes=10,
    tokenizer="tokenizers/llamagen-mini",
    tokens=TokenSpec.grid(8, 256),
    native=Sampling(guidance=Guidance(scale=2.0)),
    upstream_settings={"cfg_scale": 2.0, "cfg_interval": -1, "top_k": 0, "top_p": 1.0, "temperature": 1.0},
    parameters=870_912,
    **shipped("llamagen-mini.safetensors"),
)

CARDS: tuple[Card, ...] = (
    MINI,
    _official("b", 256, shape=(12, 12, 768), parameters=110_888_448, cfg_scale=2.0, fid=5.46),
    _official("b", 384, shape=(12, 12, 768), parameters=110_888_448, cfg_scale=2.0, fid=6.09),
    _official("l", 256, shape=(24, 16, 1024), parameters=342_910_976, cfg_scale=2.0, fid=3.80),
    _official("l", 384, shape=(24, 16, 1024), parameters=342_910_976, cfg_scale=2.0, fid=3.07),
    _official("xl", 384, shape=(36, 20, 1280), parameters=774_699_520, cfg_scale=1.75, fid=2.62),
    _official("xxl", 384, shape=(48, 24, 1536), parameters=1_410_972_672, cfg_scale=1.75, fid=2.34),
    _official("3b", 384, shape=(24, 32, 3200), parameters=3_096_659_200, cfg_scale=1.65, fid=2.18),
    _captioned(1, 256, "LAION-COCO (50M)"),
    _captioned(2, 512, "LAION-COCO (50M), then internal data (10M)"),
)
