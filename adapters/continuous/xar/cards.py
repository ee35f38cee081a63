"""Cards of xAR. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec


def _official(
    size: str, *, shape: tuple[int, int, int], steps: int, cfg: float, parameters: int, fid: float | None
) -> Card:
    """`shape` is (depth, heads, width) of encoder and decoder; `fid` the abstract's."""
    depth, heads, width = shape
    settings: dict[str, Any] = {"num_steps": steps, "cfg": cfg}
    file = f"xAR-{size.upper()}.pth"
    return Card(
        name=f"continuous/xar-{size}",
        kind="generator",
        family="continuous",
        implementation="arbench.adapters.continuous.xar.adapter:XAR",
        summary=f"xAR-{size.upper()}, ImageNet classes at 256 px, 4 cells of 8 x 8 latents, each drawn by a flow",
        resolution=256,
        config={
            "encoder_embed_dim": width,
            "encoder_depth": depth,
            "encoder_num_heads": heads,
            "decoder_embed_dim": width,
            "decoder_depth": depth,
            "decoder_num_heads": heads,
        },
        condition="class",
        classes=1000,
        tokenizer="tokenizers/mar-kl-16",
        tokens=TokenSpec.grid(16, channels=16),
        supports=frozenset({"guidance", "inner_steps"}),
        choices={"guidance.schedule": ("constant", "linear")},
        limits={"inner_steps": (3, 1000), "extra.last_inner_steps": (3, 1000)},
        extra={"last_inner_steps": "flow steps of the last cell; linear from inner_steps over the cells (DiSA)"},
        native=Sampling(guidance=Guidance(scale=cfg, schedule="linear"), inner_steps=steps),
        upstream_settings=settings,
        parameters=parameters,
        code_licence="not stated",
        weights_licence="not stated",
        source="github.com/OliverRensu/xAR at 121e9c93df32295ebe79a52b4402a86a63f321f9",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(file=file, source=f"https://huggingface.co/OliverRen/xAR/resolve/main/{file}"),
        published=()
        if fid is None
        else (
            Claim(
                metric="fid",
                value=fid,
                settings={"images": 50000, "evaluator": "torch-fidelity (fork)"},
                source="arXiv:2502.20388",
            ),
        ),
    )


CARDS: tuple[Card, ...] = (
    _official("b", shape=(8, 12, 768), steps=40, cfg=2.7, parameters=172_638_224, fid=None),
    _official("l", shape=(16, 16, 1024), steps=50, cfg=2.3, parameters=608_397_968, fid=None),
    _official("h", shape=(20, 16, 1280), steps=50, cfg=2.2, parameters=1_186_024_096, fid=1.24),
)
