"""Cards of TiTok's generators. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

from ...layers.shipped import shipped

BASE = Card(
    name="random_order/titok",
    kind="generator",
    family="random_order",
    implementation="arbench.adapters.random_order.titok.adapter:TiTok",
    summary="TiTok",
    resolution=256,
    condition="class",
    classes=1000,
    supports=frozenset({"guidance", "temperature", "top_k", "top_p", "steps"}),
    extra={
        "randomize_temperature": "temperature of draws and of confidences at the first step, from which it falls to 0",
        "softmax_temperature_annealing": "true: logits are divided by a number that falls from 1.3 to 0.5",
    },
    choices={"extra.softmax_temperature_annealing": ("false", "true")},
    limits={"extra.randomize_temperature": (0.0, 1000.0)},
    code_licence="Apache-2.0",
    weights_licence="not stated (repository: Apache-2.0; its README: for research purposes only)",
    source="https://github.com/bytedance/1d-tokenizer at 942a96f",
    trained_on="ImageNet-1k",
)
"""What all sizes have in common."""


def _official(
    size: str,
    *,
    config: dict[str, Any],
    parameters: int,
    guidance: Guidance,
    settings: dict[str, Any],
    fid: float,
) -> Card:
    """`settings` are upstream's for its FID."""
    tokens = config["image_seq_len"]
    repository = f"generator_titok_{size}_imagenet"
    extra = {"randomize_temperature": settings["randomize_temperature"], "softmax_temperature_annealing": False}
    return BASE.derive(
        name=f"random_order/titok-{size}",
        summary=f"TiTok-{size[0].upper()}-{tokens}, ImageNet classes, {tokens} tokens in a row, unmasked in few steps",
        tokenizer=f"tokenizers/titok-{size}",
        tokens=TokenSpec(kind="discrete", layout="sequence", levels=((tokens,),), vocabulary=4096),
        config=config,
        native=Sampling(guidance=guidance, steps=settings["num_sample_steps"], extra=extra),
        upstream_settings=settings,
        parameters=parameters,
        checkpoint=Checkpoint(
            file=f"{repository}.safetensors", source=f"https://huggingface.co/yucornetto/{repository}"
        ),
        published=(
            Claim(
                metric="fid",
                value=fid,
                settings={**settings, "images": 50000, "per_class": 50, "evaluator": "ADM"},
                source="README_TiTok and configs of bytedance/1d-tokenizer at 942a96f",
            ),
        ),
    )


def _settings(steps: int, temperature: float, scale: float, decay: str) -> dict[str, Any]:
    return {
        "num_sample_steps": steps,
        "randomize_temperature": temperature,
        "guidance_scale": scale,
        "guidance_decay": decay,
    }


MINI = BASE.derive(
    name="random_order/titok-mini",
    summary="TiTok's generator, small, trained on MNIST digits: 16 tokens in a row, unmasked in 8 steps",
    config={
        "model_type": "ViT",
        "hidden_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 384,
        "image_seq_len": 16,
        "condition_num_classes": 10,
        "codebook_size": 256,
    },
    classes=10,
    tokenizer="tokenizers/titok-mini",
    tokens=TokenSpec(kind="discrete", layout="sequence", levels=((16,),), vocabulary=256),
    native=Sampling(
        guidance=Guidance(scale=2.0, start=1.0, schedule="linear"),
        steps=8,
        extra={"randomize_temperature": 2.0, "softmax_temperature_annealing": False},
    ),
    parameters=499_936,
    **shipped("titok-mini.safetensors"),
)

CARDS: tuple[Card, ...] = (
    MINI,
    _official(
        "l32",
        config={"model_type": "ViT", "image_seq_len": 32},
        parameters=177_202_432,
        guidance=Guidance(scale=5.5, start=1.0, schedule="linear"),
        settings=_settings(8, 9.5, 4.5, "linear"),
        fid=2.77,
    ),
    _official(
        "b64",
        config={"model_type": "ViT", "image_seq_len": 64},
        parameters=177_227_008,
        guidance=Guidance(scale=4.0, start=1.0, schedule="linear"),
        settings=_settings(8, 11.0, 3.0, "linear"),
        fid=2.48,
    ),
    _official(
        "s128",
        config={
            "model_type": "UViT",
            "hidden_size": 1024,
            "num_hidden_layers": 20,
            "intermediate_size": 4096,
            "image_seq_len": 128,
        },
        parameters=294_990_848,
        guidance=Guidance(scale=6.9, start=1.0, schedule="cosine_power", power=3.0),
        settings=_settings(64, 2.8, 6.9, "power-cosine"),
        fid=1.97,
    ),
)
