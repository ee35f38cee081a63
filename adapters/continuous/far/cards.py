"""Cards of FAR. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

README = "README of yuhuUSTC/FAR"


def _official(
    size: str, *, shape: tuple[int, int, int], head_depth: int, parameters: int, fid: float, inception: float
) -> Card:
    """`shape` is (depth, heads, width) of encoder and decoder."""
    depth, heads, width = shape
    settings: dict[str, Any] = {"num_iter": 10, "num_sampling_steps": "100", "cfg": 3.0, "cfg_schedule": "linear"}
    settings |= {"temperature": 1.0, "mask": False}
    measured = {**settings, "images": 50000, "evaluator": "torch-fidelity (fork)"}
    return Card(
        name=f"continuous/far-{size}",
        kind="generator",
        family="continuous",
        implementation="arbench.adapters.continuous.far.adapter:FAR",
        summary=f"FAR-{size[0].upper()}, ImageNet classes at 256 px, all 256 latents in 10 steps of growing sharpness",
        resolution=256,
        config={
            "encoder_embed_dim": width,
            "encoder_depth": depth,
            "encoder_num_heads": heads,
            "decoder_embed_dim": width,
            "decoder_depth": depth,
            "decoder_num_heads": heads,
            "diffloss_d": head_depth,
            "diffloss_w": 1024,
            "mask": False,
        },
        condition="class",
        classes=1000,
        tokenizer="tokenizers/mar-kl-16",
        tokens=TokenSpec.grid(16, channels=16),
        supports=frozenset({"guidance", "inner_steps"}),
        choices={"guidance.schedule": ("constant", "linear")},
        limits={"inner_steps": (2, 1000)},
        native=Sampling(guidance=Guidance(scale=3.0, schedule="linear"), inner_steps=100),
        upstream_settings=settings,
        parameters=parameters,
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source="github.com/yuhuUSTC/FAR at 9b49a5131d5a184566de86aff6b3ae0c2e95645a",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file=f"far_{size}/checkpoint-last.pth",
            source=f"https://huggingface.co/figereatfish/FAR/tree/main/far_{size}",
            wrapper=("model_ema", "model"),
        ),
        published=(
            Claim(metric="fid", value=fid, settings=measured, source=README),
            Claim(metric="inception_score", value=inception, settings=measured, source=README),
        ),
    )


CARDS: tuple[Card, ...] = (
    _official("base", shape=(12, 12, 768), head_depth=6, parameters=207_926_816, fid=4.83, inception=247.4),
    # the README counts 451M, and its command builds this
    _official("large", shape=(16, 16, 1024), head_depth=3, parameters=426_359_840, fid=3.92, inception=288.9),
    _official("huge", shape=(20, 16, 1280), head_depth=3, parameters=811_722_272, fid=3.71, inception=304.9),
)
