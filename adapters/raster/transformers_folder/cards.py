"""A card from a folder of `transformers`: what its configuration says; no weight is read, and torch is not imported."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arbench.errors import InputError, UsageError
from arbench.protocols import Card, Checkpoint, Guidance, Sampling

EMU3_AREA = 518400
"""Pixels of an image that Emu3's processor asks for where its configuration names none: 720 x 720."""

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of the library that draws images: the adapter of its loop, and what its configuration says."""

    implementation: str
    image: Callable[[Config], tuple[Config, int]]
    """From its configuration that of the card, with the number of `tokens`, and the side in pixels."""
    native: Sampling
    upstream: Config
    summary: str


def _janus(config: Config) -> tuple[Config, int]:
    vision, codes = config.get("vision_config", {}), config.get("vq_config", {})
    tokens = int(vision.get("num_image_tokens", 576))
    side = math.isqrt(tokens) * 2 ** (len(codes.get("channel_multiplier", (1, 1, 2, 2, 4))) - 1)
    return {"tokens": tokens}, side


def _emu3(config: Config) -> tuple[Config, int]:
    area = int(config.get("image_area", EMU3_AREA))
    side = round(math.sqrt(area) / 8)  # the processor divides by 8, whatever the tokenizer does
    codes = config.get("vq_config", {}).get("channel_multiplier", (1, 2, 2, 4))
    return {"tokens": side**2, "image_area": area}, side * 2 ** (len(codes) - 1)


KINDS = {
    "JanusForConditionalGeneration": Kind(
        implementation=f"{__package__}.janus:Janus",
        image=_janus,
        native=Sampling(guidance=Guidance(scale=5.0)),
        upstream={"guidance_scale": 5},
        summary="one after the other",
    ),
    "Emu3ForConditionalGeneration": Kind(
        implementation=f"{__package__}.emu3:Emu3",
        image=_emu3,
        native=Sampling(guidance=Guidance(scale=3.0), top_k=2048),
        upstream={"classifier_free_guidance": 3.0, "top_k": 2048},
        summary="one after the other in lines, guided against the empty prompt",
    ),
}
"""Classes of the library that draw images."""

NO_IMAGES = {
    "ChameleonForConditionalGeneration": (
        "the library forbids it every image token and has no decoder of them, as the published weights draw text alone",
        "sample it with other code and give the folder of its images to `arbench score`",
    ),
    "GlmImageForConditionalGeneration": (
        "it draws tokens of a plan alone, which the diffusion model of GlmImagePipeline in diffusers makes an image of",
        "write an adapter that samples that pipeline (docs/adapters.md), or give its images to `arbench score`",
    ),
}
"""Classes that draw image tokens elsewhere -> why no image comes of them here, and what to do."""


def card(name: str) -> Card:
    """The card of `transformers:NAME`, a folder that `save_pretrained` of a model and its processor wrote.

    Raises InputError for a folder of another form, UsageError for a model that draws no images here.
    """
    folder = Path(name).expanduser().absolute()
    config = _json(folder, "config.json")
    name_of_class = next(iter(config.get("architectures") or ()), None)
    if name_of_class in NO_IMAGES:
        why, instead = NO_IMAGES[name_of_class]
        raise UsageError(f"transformers:{name}, a {name_of_class}, draws no images", why, instead)
    if name_of_class not in KINDS:
        raise UsageError(
            f"transformers:{name} draws no images here",
            f"its class is {name_of_class}",
            f"name a folder of {' or '.join(KINDS)}",
        )
    _json(folder, "generation_config.json")
    kind = KINDS[name_of_class]
    image, side = kind.image(config)
    identity = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return Card(
        name=f"transformers:{name}",
        kind="generator",
        family="raster",
        implementation=kind.implementation,
        summary=f"{name_of_class} of transformers, {image['tokens']} tokens an image, {kind.summary}",
        resolution=side,
        config={"class": name_of_class, **image},
        version=int(identity[:8], 16),
        condition="text",
        supports=frozenset({"guidance", "temperature", "top_k", "top_p"}),
        choices={"guidance.schedule": ("constant",)},
        native=kind.native,
        upstream_settings=kind.upstream,
        code_licence="Apache-2.0",
        weights_licence="not stated in the folder",
        source="transformers",
        checkpoint=Checkpoint(file=str(folder), source="the folder that is named", folder=True),
    )


def _json(folder: Path, file: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} is not a folder of transformers that draws images",
            f"{file}: {error}",
            "name a folder that save_pretrained of a model and of its processor wrote",
        ) from None
    if not isinstance(found, dict):
        raise InputError(f"cannot read {folder / file}", "it is not a JSON object", "save the folder again")
    return found
