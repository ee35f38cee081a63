"""Cards of IBQ's tokenizers. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

BASE = Card(
    name="tokenizers/ibq",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.ibq.adapter:IBQ",
    summary="IBQ",
    resolution=256,
    code_licence="Apache-2.0",
    weights_licence="not stated (repository: Apache-2.0)",
    source="https://github.com/TencentARC/SEED-Voken at b9a17ea",
    trained_on="ImageNet",
)
"""What all sizes have in common."""


def _official(codes: int, *, parameters: int, rfid: float) -> Card:
    source = "docs/IBQ.md of TencentARC/SEED-Voken at b9a17ea"
    settings = {"data": "ImageNet val", "image_size": 256}
    return BASE.derive(
        name=f"tokenizers/ibq-{codes}",
        summary=f"IBQ, 16x down, {codes} codes of 256 numbers, the largest dot product wins",
        config={"class": "IBQ", "embed_dim": 256, "n_embed": codes, "ddconfig": {"num_res_blocks": 4}},
        tokens=TokenSpec.grid(16, codes),
        parameters=parameters,
        checkpoint=Checkpoint(
            file=f"imagenet256_{codes}.ckpt",
            source=f"https://huggingface.co/TencentARC/IBQ-Tokenizer-{codes}",
            wrapper=("state_dict",),
        ),
        published=(Claim(metric="rFID", value=rfid, settings=settings, source=source),),
    )


CARDS: tuple[Card, ...] = (
    _official(1024, parameters=107_049_859, rfid=2.24),
    _official(8192, parameters=108_884_867, rfid=1.87),
    _official(16384, parameters=110_982_019, rfid=1.37),
    _official(262144, parameters=173_896_579, rfid=1.00),
)
