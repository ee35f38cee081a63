"""Cards of BitDance. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

SHAPES = {"b": (24, 12, 768, 6, 768, 2), "l": (32, 16, 1024, 8, 1024, 2), "h": (40, 20, 1280, 12, 1280, 3)}
"""(layers, heads, width), and (layers, width, sets of modulations) of the head."""


def _official(size: str, group: int, *, cfg: float, parameters: int, fid: float) -> Card:
    """`group` is the number of tokens in a pass."""
    layers, heads, width, head_layers, head_width, sets = SHAPES[size]
    config: dict[str, Any] = {"file": "model", "dim": width, "n_layer": layers, "n_head": heads}
    config |= {"diff_layers": head_layers, "diff_dim": head_width, "diff_adanln_layers": sets, "latent_dim": 32}
    config |= {"down_size": 16, "patch_size": 1, "resolution": 256, "cls_token_num": 64}
    if group > 1:
        config |= {"file": "model_parallel", "parallel_num": group, "parallel_mode": "patch"}
    settings: dict[str, Any] = {"cfg_scale": cfg, "cfg_schedule": "linear", "sample_steps": 100}
    measured = {**settings, "images": 50000, "per_class": 50, "precision": "bf16"}
    file = f"BitDance_{size.upper()}_{group}x.pt"
    tokens = "one by one" if group == 1 else f"{group} in a pass"
    return Card(
        name=f"hybrid/bitdance-{size}-{group}x",
        kind="generator",
        family="hybrid",
        implementation="arbench.adapters.hybrid.bitdance.adapter:BitDance",
        summary=f"BitDance-{size.upper()}, ImageNet classes at 256 px, 16 x 16 tokens of 32 bits, {tokens}",
        resolution=256,
        config=config,
        condition="class",
        classes=1000,
        tokenizer="tokenizers/bitdance-d16c32",
        tokens=TokenSpec(kind="discrete", layout="grid", levels=((16, 16),), vocabulary=256, codebooks=4),
        supports=frozenset({"guidance", "inner_steps"}),
        choices={"guidance.schedule": ("constant", "linear")},
        limits={"inner_steps": (1, 1000)},
        native=Sampling(guidance=Guidance(scale=cfg, schedule="linear"), inner_steps=100),
        upstream_settings=settings,
        parameters=parameters,
        code_licence="Apache-2.0",
        weights_licence="not stated (repository: Apache-2.0)",
        source="github.com/shallowdream204/BitDance (folder imagenet_gen) at 4c5ea90161b766f63eaa8985999a5a587e935a63",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file=file,
            source=f"https://huggingface.co/shallowdream204/BitDance-ImageNet/resolve/main/{file}",
            wrapper=("ema", "model"),
        ),
        published=(Claim(metric="fid", value=fid, settings=measured, source="README of shallowdream204/BitDance"),),
    )


CARDS: tuple[Card, ...] = (
    _official("b", 1, cfg=3.2, parameters=242_373_152, fid=1.68),
    _official("b", 4, cfg=3.9, parameters=260_102_432, fid=1.69),
    _official("b", 16, cfg=6.1, parameters=260_111_648, fid=1.91),
    _official("l", 1, cfg=4.0, parameters=527_271_968, fid=1.31),
    _official("h", 1, cfg=4.55, parameters=1_007_960_352, fid=1.24),
)
