"""Cards of LPD. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

SHAPES = {"l": (24, 16, 1024), "xl": (36, 20, 1280), "xxl": (48, 24, 1536)}
"""(depth, heads, width)."""
PARAMETERS = {
    "l-256": 337_157_120,
    "xl-256": 751_947_520,
    "xxl-256": 1_412_184_576,
    "l-512": 337_943_552,
    "xl-512": 752_930_560,
}


def _official(
    size: str,
    resolution: int,
    *,
    cfg: float,
    published: tuple[tuple[int, float, float, float, float], ...],
    repulsion: float = 2.0,
) -> Card:
    """`published` are (steps, cfg, FID, inception score, seconds for an image) of the README, the native one first."""
    depth, heads, width = SHAPES[size]
    side = resolution // 16
    settings: dict[str, Any] = {"cfg": cfg, "cfg_schedule": "linear", "generation_steps": published[0][0]}
    settings |= {"order": "lpd", "repulsion_threshold": repulsion, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
    claims = []
    for steps, scale, fid, inception, _ in published:
        measured = {**settings, "cfg": scale, "generation_steps": steps, "images": 50000, "precision": "bf16"}
        measured |= {"evaluator": "torch-fidelity (fork)"}
        for metric, value in (("fid", fid), ("inception_score", inception)):
            claims.append(Claim(metric=metric, value=value, settings=measured, source="README of mit-han-lab/lpd"))
    file = f"lpd_{size}_{resolution}.pth"
    return Card(
        name=f"random_order/lpd-{size}-{resolution}",
        kind="generator",
        family="random_order",
        implementation="arbench.adapters.random_order.lpd.adapter:LPD",
        summary=f"LPD-{size.upper()}, ImageNet classes, {side} x {side} tokens in groups near to what is known",
        resolution=resolution,
        config={
            "img_size": resolution,
            "decoder_embed_dim": width,
            "decoder_depth": depth,
            "decoder_num_heads": heads,
        },
        condition="class",
        classes=1000,
        tokenizer="tokenizers/llamagen-vq-16",
        tokens=TokenSpec.grid(side, 16384),
        supports=frozenset({"guidance", "temperature", "top_k", "top_p", "steps", "order"}),
        choices={"guidance.schedule": ("constant", "linear")},
        limits={"steps": (1, side * side), "extra.repulsion_threshold": (0, side)},
        offers=frozenset({"scores"}),
        extra={
            "repulsion_threshold": "tokens of a group are further apart than this, in rows or columns, where possible"
        },
        native=Sampling(
            guidance=Guidance(scale=cfg, schedule="linear"),
            steps=published[0][0],
            extra={"repulsion_threshold": repulsion},
        ),
        upstream_settings=settings,
        parameters=PARAMETERS[f"{size}-{resolution}"],
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source="github.com/mit-han-lab/lpd at f447b8384b55c9ebc37327ec693d1316a9162b55",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file=file, source=f"https://huggingface.co/mit-han-lab/lpd_{size}_{resolution}", wrapper=("model",)
        ),
        published=tuple(claims),
    )


CARDS: tuple[Card, ...] = (
    _official("l", 256, cfg=4.8, published=((20, 4.8, 2.40, 284.5, 0.28), (32, 5.4, 2.29, 282.7, 0.46))),
    _official("xl", 256, cfg=4.9, published=((20, 4.9, 2.10, 326.7, 0.41), (32, 5.0, 1.92, 319.4, 0.66))),
    _official("xxl", 256, cfg=5.9, published=((20, 5.9, 2.00, 337.6, 0.55),), repulsion=3.0),
    _official("l", 512, cfg=7.3, published=((48, 7.3, 2.54, 292.2, 0.69),), repulsion=4.0),
    _official("xl", 512, cfg=6.0, published=((48, 6.0, 2.10, 326.0, 1.01),), repulsion=4.0),
)
