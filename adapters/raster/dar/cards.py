"""Cards of D-AR. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

BASE = Card(
    name="raster/dar",
    kind="generator",
    family="raster",
    implementation="arbench.adapters.raster.dar.adapter:DAR",
    summary="D-AR",
    resolution=256,
    condition="class",
    classes=1000,
    tokenizer="tokenizers/dar-v1",
    tokens=TokenSpec(kind="discrete", layout="sequence", levels=((256,),), vocabulary=16384),
    supports=frozenset({"guidance", "temperature", "top_k", "top_p"}),
    choices={"guidance.schedule": ("constant", "linear")},
    offers=frozenset({"scores"}),
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="https://github.com/showlab/D-AR at 3fb0f2d",
    trained_on="ImageNet-1k",
    native=Sampling(guidance=Guidance(scale=8.0, start=1.2, schedule="linear")),
    upstream_settings={"cfg_scale": "1.2,8.0"},
)
"""What all sizes have in common."""


def _official(size: str, *, shape: tuple[int, int, int], parameters: int, figures: tuple[float, float]) -> Card:
    """`shape` is (dim, n_layer, n_head); `figures` are FID and Inception Score."""
    width, layers, heads = shape
    file = f"D-AR-{size.upper()}-360K.pt"
    settings = {**BASE.upstream_settings, "images": 50000, "evaluator": "ADM"}
    return BASE.derive(
        name=f"raster/dar-{size}",
        summary=f"D-AR-{size.upper()}, ImageNet classes, 256 tokens in a row, 32 for each step of a diffusion decoder",
        config={"dim": width, "n_layer": layers, "n_head": heads},
        parameters=parameters,
        checkpoint=Checkpoint(
            file=file, source=f"https://huggingface.co/showlab/D-AR/resolve/main/{file}", wrapper=("model",)
        ),
        published=tuple(
            Claim(metric=metric, value=value, settings=settings, source="README of showlab/D-AR at 3fb0f2d")
            for metric, value in zip(("fid", "inception_score"), figures, strict=True)
        ),
    )


CARDS: tuple[Card, ...] = (
    _official("l", shape=(1024, 24, 16), parameters=342_910_976, figures=(2.44, 262.9)),
    _official("xl", shape=(1280, 36, 20), parameters=774_699_520, figures=(2.09, 298.4)),
)
