"""Cards of RAR. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

from ...layers.shipped import shipped

BASE = Card(
    name="random_order/rar",
    kind="generator",
    family="random_order",
    implementation="arbench.adapters.random_order.rar.adapter:RAR",
    summary="RAR",
    resolution=256,
    condition="class",
    classes=1000,
    tokenizer="tokenizers/maskgit-vqgan",
    tokens=TokenSpec.grid(16, 1024),
    supports=frozenset({"guidance", "temperature", "top_k", "top_p", "order"}),
    choices={"order": ("native", "raster", "random")},
    offers=frozenset({"scores"}),
    code_licence="Apache-2.0",
    weights_licence="not stated (repository: Apache-2.0; its README: for research purposes only)",
    source="https://github.com/bytedance/1d-tokenizer at 942a96f",
    trained_on="ImageNet-1k",
)
"""What all sizes have in common."""


def _official(
    size: str,
    *,
    shape: tuple[int, int, int],
    parameters: int,
    sampling: tuple[float, float, float],
    fid: float,
) -> Card:
    """`shape` is (hidden_size, num_hidden_layers, intermediate_size); `sampling` the README's (temperature, scale,
    power) for its FID.
    """
    width, layers, inner = shape
    temperature, scale, power = sampling
    settings = {"randomize_temperature": temperature, "guidance_scale": scale, "guidance_scale_pow": power}
    return BASE.derive(
        name=f"random_order/rar-{size}",
        summary=f"RAR-{size.upper()}, ImageNet classes, 16 x 16 tokens one by one, trained on shuffled orders",
        config={
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": 16,
            "intermediate_size": inner,
            "image_seq_len": 256,
            "condition_num_classes": 1000,
            "codebook_size": 1024,
        },
        native=Sampling(
            guidance=Guidance(scale=scale, start=1.0, schedule="cosine_power", power=power), temperature=temperature
        ),
        upstream_settings=settings,
        parameters=parameters,
        checkpoint=Checkpoint(
            file=f"rar_{size}.bin", source=f"https://huggingface.co/yucornetto/RAR/resolve/main/rar_{size}.bin"
        ),
        published=(
            Claim(
                metric="fid",
                value=fid,
                settings={**settings, "images": 50000, "per_class": 50, "seed": "42 + rank", "evaluator": "ADM"},
                source="README_RAR of bytedance/1d-tokenizer",
            ),
        ),
    )


MINI = BASE.derive(
    name="random_order/rar-mini",
    summary="RAR, small, trained on MNIST digits: 8 x 8 tokens one by one, trained on shuffled orders",
    config={
        "hidden_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 384,
        "image_seq_len": 64,
        "condition_num_classes": 10,
        "codebook_size": 256,
    },
    classes=10,
    tokenizer="tokenizers/llamagen-mini",
    tokens=TokenSpec.grid(8, 256),
    native=Sampling(guidance=Guidance(scale=2.5)),
    upstream_settings={"randomize_temperature": 1.0, "guidance_scale": 2.5, "guidance_scale_pow": 0.0},
    parameters=965_152,
    **shipped("rar-mini.safetensors"),
)

CARDS: tuple[Card, ...] = (
    MINI,
    _official("b", shape=(768, 24, 3072), parameters=260_923_648, sampling=(1.0, 16.0, 2.75), fid=1.95),
    _official("l", shape=(1024, 24, 4096), parameters=461_668_352, sampling=(1.02, 15.5, 2.5), fid=1.70),
    _official("xl", shape=(1280, 32, 5120), parameters=955_425_024, sampling=(1.02, 6.9, 1.5), fid=1.50),
    _official("xxl", shape=(1408, 40, 6144), parameters=1_498_520_704, sampling=(1.02, 8.0, 1.2), fid=1.48),
)
