"""Cards of Halton-MaskGIT. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

BASE = Card(
    name="random_order/halton-maskgit",
    kind="generator",
    family="random_order",
    implementation="arbench.adapters.random_order.halton.adapter:HaltonMaskGIT",
    summary="Halton-MaskGIT",
    resolution=256,
    condition="class",
    classes=1000,
    tokenizer="tokenizers/llamagen-vq-16",
    supports=frozenset({"guidance", "temperature", "top_k", "top_p", "steps"}),
    extra={
        "sampler": "halton: places in the order of a Halton sequence; confidence: the surest tokens first",
        "sm_temp_min": "what logits are MULTIPLIED by at the first step",
        "sm_temp_max": "what logits are multiplied by at the last step; by confidence at all of them",
        "temp_pow": "exponent of the ramp between these two",
        "temp_warmup": "for so many first steps logits are halved",
        "randomize": "true: each sample's order is rolled by a shift of its own; by confidence: noise on confidences",
        "r_temp": "temperature of the noise on confidences at the first step, from which it falls to 0",
        "sched_mode": "how the share of known tokens grows, by confidence; the Halton sampler's is arccos",
    },
    choices={
        "extra.sampler": ("halton", "confidence"),
        "extra.randomize": ("false", "true"),
        "extra.sched_mode": ("arccos", "cosine", "linear", "root", "square"),
    },
    limits={
        "extra.sm_temp_min": (0.0, 1000.0),
        "extra.sm_temp_max": (0.0, 1000.0),
        "extra.temp_pow": (0.0, 100.0),
        "extra.temp_warmup": (0, 1000),
        "extra.r_temp": (0.0, 1000.0),
    },
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="https://github.com/valeoai/Halton-MaskGIT at f61b0a1",
    trained_on="ImageNet-1k",
)
"""What all sizes have in common."""


def _official(
    size: str,
    resolution: int,
    *,
    shape: tuple[int, int, int],
    parameters: int,
    scale: float,
    figures: tuple[float, float],
) -> Card:
    """`shape` is (hidden_dim, depth, heads), `scale` upstream's cfg_w for its `figures`, FID and Inception Score."""
    width, depth, heads = shape
    side = resolution // 16
    settings = {"sampler": "halton", "step": 32, "cfg_w": scale}
    claims = {**settings, "images": 50000}
    source = "README of valeoai/Halton-MaskGIT at f61b0a1"
    file = f"ImageNet_{resolution}_{size}.pth"
    return BASE.derive(
        name=f"random_order/halton-maskgit-{size}-{resolution}",
        summary=f"Halton-MaskGIT {size}, ImageNet classes, {side} x {side} tokens in Halton order in 32 steps",
        resolution=resolution,
        tokens=TokenSpec.grid(side, 16384),
        config={
            "input_size": side,
            "hidden_dim": width,
            "codebook_size": 16384,
            "depth": depth,
            "heads": heads,
            "mlp_dim": 4 * width,
        },
        limits={**BASE.limits, "steps": (1, side * side)},
        native=Sampling(guidance=Guidance(scale=1 + scale), steps=32),
        upstream_settings=settings,
        parameters=parameters,
        checkpoint=Checkpoint(
            file=file,
            source=f"https://huggingface.co/llvictorll/Halton-MaskGIT/resolve/main/{file}",
            wrapper=("model_state_dict",),
        ),
        published=tuple(
            Claim(metric=metric, value=value, settings=claims, source=source)
            for metric, value in zip(("fid", "inception_score"), figures, strict=True)
        ),
    )


TINY, SMALL, BASE_SIZE, LARGE = (384, 6, 6), (512, 12, 6), (768, 12, 12), (1024, 24, 16)

CARDS: tuple[Card, ...] = (
    _official("tiny", 256, shape=TINY, parameters=23_031_425, scale=1.5, figures=(10.2, 185)),
    _official("small", 256, shape=SMALL, parameters=69_393_921, scale=1.0, figures=(6.40, 255)),
    _official("base", 256, shape=BASE_SIZE, parameters=142_224_641, scale=0.7, figures=(4.17, 263)),
    _official("small", 384, shape=SMALL, parameters=69_557_761, scale=1.0, figures=(6.11, 241)),
    _official("base", 384, shape=BASE_SIZE, parameters=142_470_401, scale=0.7, figures=(4.15, 257)),
    _official("large", 384, shape=LARGE, parameters=479_984_641, scale=0.5, figures=(2.59, 281)),
)
