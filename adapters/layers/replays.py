"""Recordings of generators of tokens, replayed: scores of given tokens, and generations that take the likeliest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from arbench.errors import InputError

from .sampling import check_replayable

Replay = Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]
"""(probe, upstream settings, inputs by role) -> outputs by role."""
Answer = Callable[[Mapping[str, Any], Mapping[str, Tensor]], Tensor]
"""(upstream settings, inputs by role) -> logits (B, L, V), or tokens (B, L)."""


def filters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `Sampling` from upstream's temperature, top-k (0 or less: all) and nucleus (1: all)."""
    top_p = settings.get("top_p", 1.0)
    return {
        "temperature": settings.get("temperature", 1.0),
        "top_k": max(settings.get("top_k", 0), 0) or None,
        "top_p": top_p if top_p < 1 else None,
    }


def recorded_condition(inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """The class or the caption of a recording, and the mask of the caption's tokens if there is one."""
    return inputs["class_ids" if "class_ids" in inputs else "captions"], inputs.get(
        "emb_masks", inputs.get("caption_mask")
    )


def token_replay(what: str, settings: frozenset[str], logits: Answer, tokens: Answer) -> Replay:
    """A function that repeats the probes `logits` and `generate` of `what` ("a PAR generator").

    It raises InputError for other probes, for settings besides those and for generations that drew at random.
    """

    @torch.inference_mode()
    def call(probe: str, given: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "logits":
            return {"logits": logits(given, inputs)}
        if probe == "generate":
            check_replayable(given, settings)
            return {"tokens": tokens(given, inputs)}
        raise InputError(f"no probe {probe!r} for {what}", "known: logits, generate", "")

    return call
