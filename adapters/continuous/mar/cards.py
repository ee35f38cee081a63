"""Cards of MAR. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

from ...layers.shipped import shipped

BASE = Card(
    name="continuous/mar",
    kind="generator",
    family="continuous",
    implementation="arbench.adapters.continuous.mar.adapter:MAR",
    summary="MAR",
    resolution=256,
    condition="class",
    classes=1000,
    tokenizer="tokenizers/mar-kl-16",
    tokens=TokenSpec.grid(16, channels=16),
    supports=frozenset({"guidance", "temperature", "steps", "inner_steps"}),
    choices={"guidance.schedule": ("constant", "linear")},
    limits={"steps": (1, 256), "inner_steps": (2, 1000)},  # an iteration finds a token; the head learned 1000 times
    offers=frozenset({"edits"}),
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="github.com/LTH14/mar at fe470ac24afbee924668d8c5c83e9fec60af3a73",
    trained_on="ImageNet-1k",
)
"""What all sizes have in common."""


def _official(
    size: str,
    *,
    width: int,
    depth: int,
    heads: int,
    head_depth: int,
    head_width: int,
    cfg: float,
    batch: int,
    parameters: int,
    fid: float,
    inception: float,
    link: str,
) -> Card:
    """A released MAR; `depth` is that of the encoder and of the decoder, `batch` the one it was evaluated with."""
    settings = {
        "num_iter": 256,
        "num_sampling_steps": "100",
        "cfg": cfg,
        "cfg_schedule": "linear",
        "temperature": 1.0,
    }
    measured = {**settings, "images": 50000, "per_class": 50, "eval_bsz": batch, "evaluator": "torch-fidelity (fork)"}
    return BASE.derive(
        name=f"continuous/mar-{size}",
        summary=f"MAR-{size[0].upper()}, ImageNet classes at 256 px, 256 tokens of 16 numbers in random order",
        config={
            "encoder_embed_dim": width,
            "encoder_depth": depth,
            "encoder_num_heads": heads,
            "decoder_embed_dim": width,
            "decoder_depth": depth,
            "decoder_num_heads": heads,
            "diffloss_d": head_depth,
            "diffloss_w": head_width,
        },
        native=Sampling(guidance=Guidance(scale=cfg, schedule="linear"), steps=256, inner_steps=100),
        upstream_settings=settings,
        parameters=parameters,
        checkpoint=Checkpoint(file="checkpoint-last.pth", source=link, wrapper=("model_ema", "model")),
        published=(
            Claim(metric="fid", value=fid, settings=measured, source="README of LTH14/mar"),
            Claim(metric="inception_score", value=inception, settings=measured, source="README of LTH14/mar"),
        ),
    )


MINI = BASE.derive(
    name="continuous/mar-mini",
    summary="MAR, small, trained on MNIST digits: 16 tokens of 16 numbers in random order, drawn by diffusion",
    config={
        "img_size": 32,
        "vae_stride": 8,
        "vae_embed_dim": 16,
        "encoder_embed_dim": 96,
        "encoder_depth": 3,
        "encoder_num_heads": 4,
        "decoder_embed_dim": 96,
        "decoder_depth": 3,
        "decoder_num_heads": 4,
        "class_num": 10,
        "buffer_size": 4,
        "diffloss_d": 3,
        "diffloss_w": 160,
        "mask_ratio_min": 0.05,
        "label_drop_prob": 0.1,
        "diffusion_batch_mul": 2,
        "clip_denoised": 4.0,
    },
    classes=10,
    tokenizer="tokenizers/mar-kl-mini",
    tokens=TokenSpec.grid(4, channels=16),
    limits={**BASE.limits, "steps": (1, 16)},
    native=Sampling(guidance=Guidance(scale=2.0, schedule="linear"), steps=8, inner_steps=15),
    parameters=1_218_240,
    **shipped("mar-mini.safetensors"),
)
MAR_BASE = _official(
    "base",
    width=768,
    depth=12,
    heads=12,
    head_depth=6,
    head_width=1024,
    cfg=2.9,
    batch=256,
    parameters=207_924_768,
    fid=2.31,
    inception=281.7,
    link="https://www.dropbox.com/scl/fi/f6dpuyjb7fudzxcyhvrhk/checkpoint-last.pth?rlkey=a6i4bo71vhfo4anp33n9ukujb",
)
MAR_LARGE = _official(
    "large",
    width=1024,
    depth=16,
    heads=16,
    head_depth=8,
    head_width=1280,
    cfg=3.0,
    batch=256,
    parameters=478_326_304,
    fid=1.78,
    inception=296.0,
    link="https://www.dropbox.com/scl/fi/pxacc5b2mrt3ifw4cah6k/checkpoint-last.pth?rlkey=m48ovo6g7ivcbosrbdaz0ehqt",
)
MAR_HUGE = _official(
    "huge",
    width=1280,
    depth=20,
    heads=16,
    head_depth=12,
    head_width=1536,
    cfg=3.2,
    batch=128,
    parameters=942_403_104,
    fid=1.55,
    inception=303.7,
    link="https://www.dropbox.com/scl/fi/1qmfx6fpy3k7j9vcjjs3s/checkpoint-last.pth?rlkey=4lae281yzxb406atp32vzc83o",
)

CARDS: tuple[Card, ...] = (MINI, MAR_BASE, MAR_LARGE, MAR_HUGE)
