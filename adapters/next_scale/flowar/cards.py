"""Cards of FlowAR. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

from ...layers.shipped import shipped

BASE = Card(
    name="next_scale/flowar",
    kind="generator",
    family="next_scale",
    implementation="arbench.adapters.next_scale.flowar.adapter:FlowAR",
    summary="FlowAR",
    resolution=256,
    condition="class",
    classes=1000,
    tokenizer="tokenizers/mar-kl-16",
    tokens=TokenSpec.grid(16, channels=16),
    supports=frozenset({"guidance", "inner_steps"}),
    choices={"guidance.schedule": ("constant", "linear")},
    limits={"inner_steps": (2, 1000), "extra.last_inner_steps": (2, 1000), "extra.guided_below": (0, 1)},
    extra={
        "guided_below": "the flow's time, 1 noise and 0 image, up to which guidance acts",
        "last_inner_steps": "flow steps of the last scale; linear from inner_steps over the scales (DiSA)",
    },
    code_licence="not stated",
    weights_licence="not stated",
    source="github.com/Qinyu-Allen-Zhao/DiSA (folder FlowAR_DiSA) at 283fa59be538e2c33043427c45f7b8db40a0dfc6",
    trained_on="ImageNet-1k",
)
"""What all sizes have in common."""

SCALES = (1, 2, 4, 8, 16)
PARAMETERS = {"s": 171_718_072, "l": 586_862_912, "h": 1_913_316_880}


def _official(
    size: str,
    *,
    shape: tuple[int, int, int],
    head: tuple[int, int],
    steps: int,
    cfg: float,
    below: float,
    fid: float | None,
) -> Card:
    """`shape` is (depth, heads, width) of encoder and decoder, `head` (depth, width) of the flow network."""
    depth, heads, width = shape
    settings: dict[str, Any] = {"num_step": steps, "cfg": cfg, "guidance": below}
    measured = {**settings, "images": 50000, "per_class": 50, "evaluator": "torch-fidelity (fork)"}
    file = f"FlowAR-{size.upper()}.pth"
    return BASE.derive(
        name=f"next_scale/flowar-{size}",
        summary=f"FlowAR-{size.upper()}, ImageNet classes at 256 px, 5 scales of latents, each drawn by a flow",
        config={
            "encoder_embed_dim": width,
            "encoder_depth": depth,
            "encoder_num_heads": heads,
            "decoder_embed_dim": width,
            "decoder_depth": depth,
            "decoder_num_heads": heads,
            "diffloss_d": head[0],
            "diffloss_w": head[1],
            "scale": SCALES,
            "cross": size != "s",
        },
        native=Sampling(
            guidance=Guidance(scale=cfg, schedule="linear"), inner_steps=steps, extra={"guided_below": below}
        ),
        upstream_settings=settings,
        parameters=PARAMETERS[size],
        checkpoint=Checkpoint(file=file, source=f"https://huggingface.co/OliverRen/FlowAR/resolve/main/{file}"),
        published=()
        if fid is None
        else (Claim(metric="fid", value=fid, settings=measured, source="README of OliverRensu/FlowAR"),),
    )


MINI = BASE.derive(
    name="next_scale/flowar-mini",
    summary="FlowAR, small, trained on MNIST digits: 3 scales of latents, up to 4 x 4, each drawn by a flow",
    config={
        "img_size": 32,
        "vae_stride": 8,
        "vae_embed_dim": 16,
        "encoder_embed_dim": 64,
        "encoder_depth": 3,
        "encoder_num_heads": 4,
        "decoder_embed_dim": 64,
        "decoder_depth": 3,
        "decoder_num_heads": 4,
        "classes": 10,
        "diffloss_d": 2,
        "diffloss_w": 128,
        "scale": (1, 2, 4),
        "label_drop_prob": 0.1,
    },
    classes=10,
    tokenizer="tokenizers/mar-kl-mini",
    tokens=TokenSpec.grid(4, channels=16),
    native=Sampling(guidance=Guidance(scale=3.0, schedule="linear"), inner_steps=15, extra={"guided_below": 0.9}),
    parameters=1_146_012,
    **shipped("flowar-mini.safetensors"),
)

CARDS: tuple[Card, ...] = (
    MINI,
    _official("s", shape=(6, 12, 768), head=(2, 1024), steps=25, cfg=4.3, below=0.9, fid=None),
    _official("l", shape=(8, 16, 1024), head=(12, 1024), steps=25, cfg=2.4, below=0.9, fid=1.90),
    _official("h", shape=(15, 16, 1536), head=(12, 1536), steps=50, cfg=2.4, below=0.7, fid=1.65),
)
