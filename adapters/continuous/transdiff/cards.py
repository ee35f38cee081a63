"""Cards of TransDiff. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

README = "README of TransDiff/TransDiff"
SHAPES = {"b": (12, 12, 768), "l": (16, 16, 1024), "h": (20, 16, 1280)}
"""(depth, heads, width) of the diffusion decoder; the transformer is twice as deep."""
DRIFT, NOISE = "drift_scale", "noise_scale"


def _official(
    name: str,
    *,
    cfg: float,
    scales: tuple[float, float],
    parameters: int,
    fid: float,
    inception: float,
) -> Card:
    """`name` is the size and what follows it: "mrar" for four images in turn, "512" for the large images."""
    size, _, kind = name.partition("-")
    depth, heads, width = SHAPES[size]
    resolution = 512 if kind == "512" else 256
    settings: dict[str, Any] = {"cfg": cfg, "scale_0": scales[0], "scale_1": scales[1], "num_sampling_steps": 100}
    measured = {**settings, "images": 50000, "evaluator": "torch-fidelity (fork)"}
    file = f"transdiff_{name.replace('-', '_')}/checkpoint-last.pth"
    config: dict[str, Any] = {"img_size": resolution, "encoder_embed_dim": width, "encoder_depth": depth}
    config |= {"encoder_num_heads": heads, "decoder_embed_dim": width, "decoder_depth": depth}
    config |= {"decoder_num_heads": heads}
    if kind == "mrar":
        config |= {"mrar": True, "patch_size": 2}
    side = resolution // 16
    how = "the last of four images in turn" if kind == "mrar" else "one pass of the transformer"
    return Card(
        name=f"continuous/transdiff-{name}",
        kind="generator",
        family="continuous",
        implementation="arbench.adapters.continuous.transdiff.adapter:TransDiff",
        summary=f"TransDiff-{size.upper()}, ImageNet classes at {resolution} px, {side} x {side} latents; {how}",
        resolution=resolution,
        config=config,
        condition="class",
        classes=1000,
        tokenizer="tokenizers/mar-kl-16",
        tokens=TokenSpec.grid(side, channels=16),
        supports=frozenset({"guidance", "inner_steps"}),
        choices={"guidance.schedule": ("constant",)},
        limits={"inner_steps": (2, 1000), f"extra.{DRIFT}": (0, 2), f"extra.{NOISE}": (0, 2)},
        extra={
            DRIFT: "what each step's drift is multiplied by, but for the last step (scale_0)",
            NOISE: "what each step's noise is multiplied by (scale_1)",
        },
        native=Sampling(guidance=Guidance(scale=cfg), inner_steps=100, extra={DRIFT: scales[0], NOISE: scales[1]}),
        upstream_settings=settings,
        parameters=parameters,
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source="github.com/TransDiff/TransDiff at 0081b3a379a9429f946e434d3de53740c6c7dcf7",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file=file,
            source=f"https://huggingface.co/zhendch/Transdiff/resolve/main/{file}",
            wrapper=("model_ema", "model"),
        ),
        published=(
            Claim(metric="fid", value=fid, settings=measured, source=README),
            Claim(metric="inception_score", value=inception, settings=measured, source=README),
        ),
    )


CARDS: tuple[Card, ...] = (
    _official("b", cfg=1.30, scales=(0.87, 0.91), parameters=289_959_184, fid=2.47, inception=244.2),
    _official("l", cfg=1.30, scales=(0.89, 0.95), parameters=682_519_568, fid=1.69, inception=244.3),
    _official("h", cfg=1.23, scales=(0.87, 0.93), parameters=1_327_891_216, fid=1.61, inception=282.0),
    _official("b-mrar", cfg=1.30, scales=(0.87, 0.91), parameters=290_044_432, fid=2.25, inception=282.2),
    _official("l-mrar", cfg=1.30, scales=(0.925, 0.95), parameters=682_633_232, fid=1.49, inception=293.4),
    _official("h-mrar", cfg=1.28, scales=(0.87, 0.91), parameters=1_328_033_296, fid=1.42, inception=301.2),
    _official("l-512", cfg=1.30, scales=(0.87, 0.87), parameters=683_306_000, fid=2.51, inception=286.6),
)
