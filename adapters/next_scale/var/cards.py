"""Cards of VAR. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

from ...layers.shipped import shipped

BASE = Card(
    name="next_scale/var",
    kind="generator",
    family="next_scale",
    implementation="arbench.adapters.next_scale.var.adapter:VAR",
    summary="VAR",
    resolution=256,
    condition="class",
    classes=1000,
    supports=frozenset({"guidance", "temperature", "top_k", "top_p"}),
    offers=frozenset({"edits", "scores"}),
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="github.com/FoundationVision/VAR at 78b95394fc5896192e3a003e4b295f8ea743c48f",
    trained_on="ImageNet-1k",
)
"""What all sizes have in common."""
SIDES = {256: (1, 2, 3, 4, 5, 6, 8, 10, 13, 16), 512: (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)}


def guided(cfg: float) -> Guidance:
    """Upstream's `cfg` in canonical form: from unguided at the first scale to 1 + cfg at the last."""
    return Guidance(scale=1 + cfg, start=1.0, schedule="linear")


def _official(name: str, depth: int, resolution: int, *, parameters: int, fid: tuple[tuple[str, float], ...]) -> Card:
    """`fid` holds (row of the README's table, value)."""
    sides = SIDES[resolution]
    file = f"var_d{depth}.pth"
    settings = {"cfg": 1.5, "top_k": 900, "top_p": 0.96, "more_smooth": False}
    return BASE.derive(
        name=f"next_scale/var-{name}",
        summary=f"VAR-{name}, ImageNet classes at {resolution} px, {len(sides)} scales",
        resolution=resolution,
        config={
            "patch_nums": sides,
            "vocab_size": 4096,
            "z_channels": 32,
            "depth": depth,
            "embed_dim": 64 * depth,
            "num_heads": depth,
            "attn_l2_norm": True,
            "shared_aln": name.endswith("-s"),
        },
        tokenizer="tokenizers/var-msvq" if resolution == 256 else "tokenizers/var-msvq-512",
        tokens=TokenSpec.pyramid(sides, 4096),
        native=Sampling(guidance=guided(1.5), top_k=900, top_p=0.96),
        upstream_settings=settings,
        parameters=parameters,
        checkpoint=Checkpoint(file=file, source=f"https://huggingface.co/FoundationVision/var/resolve/main/{file}"),
        published=tuple(
            Claim(
                metric="fid",
                value=value,
                settings={**settings, "images": 50000, "per_class": 50, "evaluator": "ADM", "row": row},
                source="README of FoundationVision/VAR",
            )
            for row, value in fid
        ),
    )


MINI = BASE.derive(
    name="next_scale/var-mini",
    summary="VAR, small, trained on MNIST digits: 30 tokens in 4 scales",
    config={
        "patch_nums": (1, 2, 3, 4),
        "vocab_size": 512,
        "z_channels": 16,
        "num_classes": 10,
        "depth": 6,
        "embed_dim": 128,
        "num_heads": 4,
        "attn_l2_norm": True,
    },
    classes=10,
    tokenizer="tokenizers/var-mini",
    tokens=TokenSpec.pyramid((1, 2, 3, 4), 512),
    native=Sampling(guidance=guided(1.5), top_k=100, top_p=0.96),
    upstream_settings={"cfg": 1.5, "top_k": 100, "top_p": 0.96, "more_smooth": False},
    parameters=1_887_384,
    **shipped("var-mini.safetensors"),
)

CARDS: tuple[Card, ...] = (
    MINI,
    _official("d16", 16, 256, parameters=310_283_520, fid=(("VAR-d16", 3.55),)),
    _official("d20", 20, 256, parameters=600_917_136, fid=(("VAR-d20", 2.95),)),
    _official("d24", 24, 256, parameters=1_033_399_360, fid=(("VAR-d24", 2.33),)),
    _official("d30", 30, 256, parameters=2_010_020_356, fid=(("VAR-d30", 1.97), ("VAR-d30-re", 1.80))),
    _official("d36-s", 36, 512, parameters=2_353_893_904, fid=(("VAR-d36", 2.63),)),
)
