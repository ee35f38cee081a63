"""Cards of FlexVAR. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

README = "README of jiaosiyu1999/FlexVAR"
SIDES = (1, 2, 3, 4, 5, 7, 10, 13, 16)
"""The scales of the official evaluation at 256 px."""


def _official(depth: int, epoch: int, *, parameters: int, fid: float, inception: float) -> Card:
    file = f"FlexVARd{depth}-epo{epoch}.pth"
    settings = {"cfg": 2.5, "top_k": 900, "top_p": 0.95, "infer_patch_nums": "_".join(map(str, SIDES)), "max_pn": 16}
    measured = {**settings, "images": 50000, "per_class": 50, "evaluator": "ADM"}
    return Card(
        name=f"next_scale/flexvar-d{depth}",
        kind="generator",
        family="next_scale",
        implementation="arbench.adapters.next_scale.flexvar.adapter:FlexVAR",
        summary=f"FlexVAR-d{depth}, ImageNet classes at 256 px, {len(SIDES)} scales, each a picture of its own",
        resolution=256,
        config={
            "patch_nums": SIDES,
            "vocab_size": 4096,
            "Cvae": 32,
            "depth": depth,
            "embed_dim": 64 * depth,
            "num_heads": depth,
            "attn_l2_norm": True,
        },
        condition="class",
        classes=1000,
        tokenizer="tokenizers/flexvar-vae",
        tokens=TokenSpec.pyramid(SIDES, 4096),
        supports=frozenset({"guidance", "temperature", "top_k", "top_p"}),
        choices={"guidance.schedule": ("constant", "linear")},
        offers=frozenset({"scores"}),
        native=Sampling(guidance=Guidance(scale=3.5, schedule="linear"), top_k=900, top_p=0.95),
        upstream_settings=settings,
        parameters=parameters,
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source="github.com/jiaosiyu1999/FlexVAR at 04462cb6e1bbb4524bfcafcd5c5701894a3ac7d1",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file=file,
            source=f"https://huggingface.co/jiaosiyu1999/FlexVAR/resolve/main/{file}",
            wrapper=("trainer.var_wo_ddp",),
        ),
        published=(
            Claim(metric="fid", value=fid, settings=measured, source=README),
            Claim(metric="inception_score", value=inception, settings=measured, source=README),
        ),
    )


CARDS: tuple[Card, ...] = (
    _official(16, 179, parameters=310_625_536, fid=3.05, inception=291.3),
    _official(20, 249, parameters=601_344_656, fid=2.41, inception=299.3),
    _official(24, 349, parameters=1_033_912_384, fid=2.21, inception=299.1),
)
