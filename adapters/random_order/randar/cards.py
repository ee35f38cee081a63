"""Cards of RandAR. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

from ...layers.shipped import shipped

BASE = Card(
    name="random_order/randar",
    kind="generator",
    family="random_order",
    implementation="arbench.adapters.random_order.randar.adapter:RandAR",
    summary="RandAR",
    resolution=256,
    condition="class",
    classes=1000,
    tokenizer="tokenizers/llamagen-vq-16",
    supports=frozenset({"guidance", "temperature", "top_k", "top_p", "steps", "order"}),
    offers=frozenset({"edits", "scores"}),
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="https://github.com/ziqipang/RandAR at d374a72",
    trained_on="ImageNet-1k",
)
"""What all sizes have in common."""
_README = "README of ziqipang/RandAR at d374a72"
_PAPER = "arXiv:2412.01827"
_HUGGING_FACE = "https://huggingface.co/ziqipang/RandAR/resolve/main"

SHAPES = {"0.3b": (24, 16, 1024), "0.7b": (36, 20, 1280), "1.4b": (48, 24, 1536)}
"""(n_layer, n_head, dim): LlamaGen's L, XL and XXL."""
PARAMETERS = {"0.3b": 342_912_000, "0.7b": 774_700_800, "1.4b": 1_410_974_208}
"""With 16,384 codes."""
EXTRAPOLATION = {
    "spatial_guidance": "scale of the guidance away from an image with missing neighbours, at the last token; 1: off",
    "spatial_guidance_start": "the same at the first token; as at the last unless given",
    "spatial_masking_ratio": "share of the neighbours that is missing for it, 0 to 1",
}


def _official_file(size: str, tokenizer: str) -> Checkpoint:
    if size == "1.4b":
        # the README links no file of this size
        return Checkpoint(
            file="rbrar_xxl_1.4b_c2i.safetensors",
            source="https://huggingface.co/yucornell/RandAR (named after its rbrar_l_0.3b_c2i.safetensors)",
        )
    file = f"randar_{size}_{tokenizer}_360k_bs_1024_lr_0.0004.safetensors"
    return Checkpoint(file=file, source=f"{_HUGGING_FACE}/{file}")


def _official(
    size: str,
    *,
    tokenizer: str,
    cfg_scales: tuple[float, float],
    published: tuple[tuple[str, float, float, float, float], ...] = (),
    extrapolated: bool = False,
) -> Card:
    """`published` are (source, FID, inception score, precision, recall) on 50,000 images of 256 x 256."""
    layers, heads, width = SHAPES[size]
    codes = 1024 if tokenizer == "maskgit" else 16384
    side = 32 if extrapolated else 16
    steps = 1024 if extrapolated else 88
    settings: dict[str, Any] = {"cfg_scales": cfg_scales, "num_inference_steps": steps}
    settings |= {"top_k": 0, "top_p": 1.0, "temperature": 1.0}
    start, end = cfg_scales
    guidance = Guidance(scale=end) if start == end else Guidance(scale=end, start=start, schedule="linear")
    config: dict[str, Any] = {"dim": width, "n_layer": layers, "n_head": heads, "vocab_size": codes}
    config |= {"num_inference_steps": steps}
    if extrapolated:
        config |= {"extrapolation_factor": 2.0}
        settings |= {"spatial_cfg_scales": (2.5, 2.5), "spatial_masking_ratio": 0.5, "extrapolation_factor": 2.0}
        settings |= {"ntk_boundary": 2}
    name = f"random_order/randar-{size}" + ("-maskgit" if tokenizer == "maskgit" else "")
    card = BASE.derive(
        name=name,
        summary=f"RandAR {size.upper()}, ImageNet classes, {side} x {side} tokens in random order, several in a pass",
        resolution=16 * side,
        config=config,
        tokenizer="tokenizers/maskgit-vqgan" if tokenizer == "maskgit" else BASE.tokenizer,
        tokens=TokenSpec.grid(side, codes),
        limits={"steps": (2, side * side)},
        native=Sampling(guidance=guidance, steps=steps),
        upstream_settings=settings,
        parameters=PARAMETERS[size] - 2 * width * (16384 - codes),
        checkpoint=_official_file(size, tokenizer),
        published=tuple(claim for row in published for claim in _claims(*row, settings)),
    )
    if not extrapolated:
        return card
    return card.derive(
        name=f"{name}-512",
        summary=f"{card.summary} (trained on 16 x 16, extrapolated)",
        offers=frozenset(),
        extra=EXTRAPOLATION,
        limits={
            **card.limits,
            "extra.spatial_guidance": (1, 100),
            "extra.spatial_guidance_start": (0, 100),
            "extra.spatial_masking_ratio": (0, 1),
        },
        native=Sampling(guidance=guidance, steps=steps, extra={"spatial_guidance": 2.5, "spatial_masking_ratio": 0.5}),
    )


def _claims(
    source: str, fid: float, inception: float, precision: float, recall: float, settings: dict[str, Any]
) -> tuple[Claim, ...]:
    measured = {"images": 50000, "image_size": 256, "evaluator": "ADM", "precision": "bf16"}
    # the paper's weights are others than the README's, and its scales are not in the README
    measured = (settings if source == _README else {"num_inference_steps": 88}) | measured
    values = {"fid": fid, "inception_score": inception, "precision": precision, "recall": recall}
    return tuple(Claim(metric=name, value=value, settings=measured, source=source) for name, value in values.items())


MINI = BASE.derive(
    name="random_order/randar-mini",
    summary="RandAR, small, trained on MNIST digits: 8 x 8 tokens in random order, several in a pass",
    config={
        "dim": 96,
        "n_layer": 4,
        "n_head": 4,
        "multiple_of": 32,
        "num_classes": 10,
        "vocab_size": 256,
        "block_size": 64,
        "num_inference_steps": 24,
    },
    classes=10,
    tokenizer="tokenizers/llamagen-mini",
    tokens=TokenSpec.grid(8, 256),
    limits={"steps": (2, 64)},
    native=Sampling(guidance=Guidance(scale=4.0), steps=24),
    upstream_settings={"cfg_scales": (4.0, 4.0), "num_inference_steps": 24, "top_k": 0, "top_p": 1.0}
    | {"temperature": 1.0},
    parameters=493_536,
    **shipped("randar-mini.safetensors"),
)

CARDS: tuple[Card, ...] = (
    MINI,
    _official(
        "0.3b",
        tokenizer="llamagen",
        cfg_scales=(1.0, 3.4),
        published=((_README, 2.65, 249, 0.82, 0.56), (_PAPER, 2.55, 288, 0.82, 0.58)),
    ),
    _official("0.3b", tokenizer="maskgit", cfg_scales=(1.0, 4.0), published=((_README, 2.47, 271, 0.84, 0.54),)),
    _official(
        "0.7b",
        tokenizer="llamagen",
        cfg_scales=(1.0, 4.0),
        published=((_README, 2.27, 275, 0.81, 0.59), (_PAPER, 2.25, 318, 0.80, 0.60)),
    ),
    _official("1.4b", tokenizer="llamagen", cfg_scales=(1.0, 4.0), published=((_PAPER, 2.15, 322, 0.79, 0.62),)),
    _official("0.3b", tokenizer="llamagen", cfg_scales=(3.0, 3.0), extrapolated=True),
    _official("0.7b", tokenizer="llamagen", cfg_scales=(3.0, 3.0), extrapolated=True),
    _official("1.4b", tokenizer="llamagen", cfg_scales=(3.0, 3.0), extrapolated=True),
)
