"""Cards of the file formats. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, TokenSpec

BASE = Card(
    name="tokenizers/image-files",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.image_files.adapter:ImageFiles",
    summary="bytes of an image file",
    resolution=256,
    multiple=1,
    tokens=TokenSpec(kind="discrete", layout="sequence", levels=((0,),), vocabulary=256, variable_length=True),
    parameters=0,
    code_licence="Apache-2.0",
    weights_licence="not needed: it has no weights",
    source="Pillow",
)
"""What both formats have in common."""

JPEG = BASE.derive(
    name="tokenizers/jpeg",
    summary="bytes of a JPEG file of quality 75, as Pillow writes it: no training, any size",
    config={"format": "JPEG", "quality": 75},
)
WEBP = BASE.derive(
    name="tokenizers/webp",
    summary="bytes of a WebP file of quality 80, as Pillow writes it: no training, any size",
    config={"format": "WEBP", "quality": 80},
)

CARDS: tuple[Card, ...] = (JPEG, WEBP)
