"""Cards of PAR. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

SHAPES = {"xl": (36, 20, 1280), "xxl": (48, 24, 1536), "3b": (24, 32, 3200)}
"""(n_layer, n_head, dim): LlamaGen's."""


def _official(size: str, regions: int, *, parameters: int, cfg_scale: float, fid: float) -> Card:
    """`regions` is the number of tokens in a pass; scale and FID are the README's."""
    layers, heads, width = SHAPES[size]
    file = f"PAR-{size.upper()}-{regions}x.pt"
    settings: dict[str, Any] = {"cfg_scale": cfg_scale, "cfg_interval": -1, "top_k": 0, "top_p": 1.0}
    settings |= {"temperature": 1.0, "spe_token_num": regions - 1, "ar_token_num": regions}
    measured = {"images": 50000, "image_size": 384, "image_size_eval": 256, "evaluator": "ADM"}
    return Card(
        name=f"random_order/par-{size}-{regions}x",
        kind="generator",
        family="random_order",
        implementation="arbench.adapters.random_order.par.adapter:PAR",
        summary=f"PAR-{size.upper()}, ImageNet classes, 24 x 24 tokens, one of each of {regions} regions in a pass",
        resolution=384,
        config={
            "dim": width,
            "n_layer": layers,
            "n_head": heads,
            "block_size": 576,
            "spe_token_num": regions - 1,
            "ar_token_num": regions,
        },
        condition="class",
        classes=1000,
        tokenizer="tokenizers/llamagen-vq-16",
        tokens=TokenSpec.grid(24, 16384),
        supports=frozenset({"guidance", "temperature", "top_k", "top_p"}),
        choices={"guidance.schedule": ("constant",)},
        offers=frozenset({"scores"}),
        native=Sampling(guidance=Guidance(scale=cfg_scale)),
        upstream_settings=settings,
        parameters=parameters,
        code_licence="not stated",
        weights_licence="not stated",
        source="github.com/YuqingWang1029/PAR at b1dd994b3d37205089aef9f729255c8e94085e28",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file=file,
            source=f"https://huggingface.co/Epiphqny/PAR/resolve/main/{file}",
            wrapper=("model", "module", "state_dict"),
        ),
        published=(
            Claim(metric="fid", value=fid, settings={**settings, **measured}, source="README of YuqingWang1029/PAR"),
        ),
    )


CARDS: tuple[Card, ...] = (
    _official("xl", 4, parameters=774_703_360, cfg_scale=1.5, fid=2.61),
    _official("xxl", 4, parameters=1_410_977_280, cfg_scale=1.435, fid=2.35),
    _official("3b", 4, parameters=3_096_668_800, cfg_scale=1.345, fid=2.29),
    _official("3b", 16, parameters=3_096_707_200, cfg_scale=1.5, fid=2.88),
)
