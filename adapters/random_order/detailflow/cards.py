"""Cards of DetailFlow's generators. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec


def _official(groups: int, *, cfg_scale: float, fid: float, parameters: int) -> Card:
    tokens = 8 * groups
    settings: dict[str, Any] = {"cfg_scale": cfg_scale, "top_k": 8192, "top_p": 1.0, "temperature": 1.0}
    name = f"DetailFlow-{groups}-GPT-L"
    return Card(
        name=f"random_order/detailflow-{groups}",
        kind="generator",
        family="random_order",
        implementation="arbench.adapters.random_order.detailflow.adapter:DetailFlow",
        summary=f"{name}, ImageNet classes at 256 px, {tokens} tokens in a row from coarse to fine, 8 in a pass",
        resolution=256,
        config={
            "dim": 1024,
            "n_layer": 24,
            "n_head": 16,
            "vocab_size": 8192,
            "block_size": tokens,
            "group_size": 8,
            "causal_num": None,
        },
        condition="class",
        classes=1000,
        tokenizer=f"tokenizers/detailflow-{groups}",
        tokens=TokenSpec(kind="discrete", layout="sequence", levels=((tokens,),), vocabulary=8192),
        supports=frozenset({"guidance", "temperature", "top_k", "top_p"}),
        choices={"guidance.schedule": ("constant", "linear")},
        offers=frozenset({"scores"}),
        native=Sampling(guidance=Guidance(scale=cfg_scale)),
        upstream_settings=settings,
        parameters=parameters,
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        source="github.com/ByteFlow-AI/DetailFlow at c5f06cdc99b5675550debac38eae818ee86066a0",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file=f"checkpoints/{tokens}.pt",
            source=f"https://huggingface.co/ByteVisionLab/{name}",
            wrapper=("ema", "model", "module", "state_dict"),
        ),
        published=(
            Claim(
                metric="fid",
                value=fid,
                settings={**settings, "images": 50000, "evaluator": "ADM", "dtype": "bfloat16"},
                source="README of ByteFlow-AI/DetailFlow at c5f06cd",
            ),
        ),
    )


CARDS: tuple[Card, ...] = (
    _official(16, cfg_scale=1.45, fid=2.96, parameters=326_140_928),
    _official(32, cfg_scale=1.5, fid=2.75, parameters=326_140_928),
    _official(64, cfg_scale=1.32, fid=2.59, parameters=326_140_928),
)
