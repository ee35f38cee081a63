"""A card from a folder of `transformers`: what its configuration says; no weight is read, and torch is not imported."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arbench.errors import InputError, UsageError
from arbench.protocols import Card, Checkpoint, Guidance, Sampling


def _janus(config: dict[str, Any]) -> tuple[int, int]:
    vision, codes = config.get("vision_config", {}), config.get("vq_config", {})
    tokens = int(vision.get("num_image_tokens", 576))
    return tokens, math.isqrt(tokens) * 2 ** (len(codes.get("channel_multiplier", (1, 1, 2, 2, 4))) - 1)


KINDS: dict[str, Callable[[dict[str, Any]], tuple[int, int]]] = {"JanusForConditionalGeneration": _janus}
"""Class of the library -> from its configuration the tokens of an image and the side of its pixels."""


def card(name: str) -> Card:
    """The card of `transformers:NAME`, a folder that `save_pretrained` of a model and its processor wrote.

    Raises InputError for a folder of another form, UsageError for a model that draws no images here.
    """
    folder = Path(name).expanduser().absolute()
    config = _json(folder, "config.json")
    _json(folder, "generation_config.json")
    kind = next(iter(config.get("architectures") or ()), None)
    if kind not in KINDS:
        raise UsageError(
            f"transformers:{name} draws no images here", f"its class is {kind}", f"name a folder of {', '.join(KINDS)}"
        )
    tokens, side = KINDS[kind](config)
    identity = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return Card(
        name=f"transformers:{name}",
        kind="generator",
        family="raster",
        implementation=f"{__package__}.adapter:TransformersModel",
        summary=f"{kind} of transformers, {tokens} tokens an image, one after the other",
        resolution=side,
        config={"class": kind, "tokens": tokens},
        version=int(identity[:8], 16),
        condition="text",
        supports=frozenset({"guidance", "temperature", "top_k", "top_p"}),
        choices={"guidance.schedule": ("constant",)},
        native=Sampling(guidance=Guidance(scale=5.0)),
        upstream_settings={"guidance_scale": 5},
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
