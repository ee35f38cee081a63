"""Cards of ARPG. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

_README = "README of hp-l33/ARPG"
_GUIDE = "GETTING_STARTED.md of hp-l33/ARPG (close to)"


def _official(
    size: str,
    *,
    shape: tuple[int, int, int],
    file: str,
    parameters: int,
    cfg: tuple[float, float],
    fid: tuple[float, float],
    inception: float,
) -> Card:
    """`shape` is (n_layer, n_head, dim); scales and FIDs are those of the cosine and of the arccos schedule."""
    layers, heads, width = shape
    settings: dict[str, Any] = {"cfg_schedule": "linear", "num_iter": 64, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
    cosine, arccos = (
        {**settings, "guidance_scale": scale, "sample_schedule": schedule}
        for scale, schedule in zip(cfg, ("cosine", "arccos"), strict=True)
    )
    measured = {"images": 50000, "image_size": 256, "evaluator": "ADM"}
    return Card(
        name=f"random_order/arpg-{size}",
        kind="generator",
        family="random_order",
        implementation="arbench.adapters.random_order.arpg.adapter:ARPG",
        summary=f"ARPG-{size.upper()}, ImageNet classes, 16 x 16 tokens in random order, several in a pass",
        resolution=256,
        config={"dim": width, "n_layer": layers, "n_head": heads},
        condition="class",
        classes=1000,
        tokenizer="tokenizers/llamagen-vq-16",
        tokens=TokenSpec.grid(16, 16384),
        supports=frozenset({"guidance", "temperature", "top_k", "top_p", "steps", "order"}),
        choices={"guidance.schedule": ("constant", "linear"), "extra.token_schedule": ("cosine", "arccos")},
        limits={"steps": (1, 256)},
        offers=frozenset({"scores"}),
        extra={"token_schedule": "how many tokens are known after each pass: cosine (the paper's) or arccos"},
        native=Sampling(guidance=Guidance(scale=cfg[0], schedule="linear"), steps=64),
        upstream_settings=cosine,
        parameters=parameters,
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source="github.com/hp-l33/ARPG at 1a1758c304b288a673370a2bae27aa8fa8dbe88d",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(file=file, source=f"https://huggingface.co/hp-l33/ARPG/resolve/main/{file}"),
        published=(
            Claim(metric="fid", value=fid[0], settings={**cosine, **measured}, source=_README),
            Claim(metric="inception_score", value=inception, settings={**cosine, **measured}, source=_README),
            Claim(metric="fid", value=fid[1], settings={**arccos, **measured}, source=_GUIDE),
        ),
    )


CARDS: tuple[Card, ...] = (
    _official(
        "l",
        shape=(24, 16, 1024),
        file="arpg_300m.pt",
        parameters=319_845_376,
        cfg=(4.5, 5.0),
        fid=(2.44, 2.38),
        inception=292,
    ),
    _official(
        "xl",
        shape=(36, 20, 1280),
        file="arpg_700m.pt",
        parameters=718_997_760,
        cfg=(6.0, 6.0),
        fid=(2.10, 2.02),
        inception=331,
    ),
    _official(
        "xxl",
        shape=(48, 24, 1536),
        file="arpg_1b.pt",
        parameters=1_302_449_664,
        cfg=(7.5, 7.5),
        fid=(1.94, 1.91),
        inception=340,
    ),
)
