"""What all generators share when they draw tokens: checking the request, mixing guidance, filtering logits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from arbench.errors import InputError, Unsupported
from arbench.protocols import Card, Guidance, Noise, Sampling
from arbench.spec.sampling import COLDEST

DRAWN_AT_ONCE = 2**24
"""Logits that are filtered and drawn from at once."""
_DEFAULT = {name: field.get_default(call_default_factory=True) for name, field in Sampling.model_fields.items()}


def check_supported(card: Card, sampling: Sampling) -> None:
    """Raise `Unsupported` for any knob that is set and that this adapter would have to ignore."""
    asked = {name for name, value in sampling if name not in ("guidance", "extra") and value != _DEFAULT[name]}
    if sampling.guidance.on:
        asked.add("guidance")
    known = ", ".join(sorted(card.supports | card.extra.keys())) or "nothing"
    refused = [*sorted(asked - card.supports), *sorted(sampling.extra.keys() - card.extra.keys())]
    if refused or (refused := card.refused(sampling)):
        raise Unsupported(
            f"{card.name} does not support {', '.join(refused)}",
            f"it honours: {known}",
            "leave these settings out, or choose another adapter",
        )


def guided_steps(guidance: Guidance, steps: int) -> int:
    """How many of the first `steps` steps are guided: the fraction `until`, rounded, and never less than one."""
    if not guidance.on:
        return 0
    return max(1, min(steps, round(guidance.until * steps)))


def mix_guidance(logits: Tensor, weight: float) -> Tensor:
    """(B, ...): `uncond + weight * (cond - uncond)` from a doubled batch (2B, ...), conditional half first."""
    conditional, unconditional = logits.chunk(2)
    return unconditional + weight * (conditional - unconditional)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Logits (..., V) with -inf below the k-th largest value; all that tie with it stay."""
    smallest = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < smallest, -torch.inf)


def keep_top_p(logits: Tensor, p: float, *, reach: bool = False) -> Tensor:
    """Logits (..., V) with -inf outside the nucleus: the likeliest tokens up to and with the first above mass `p`.

    With `reach` the nucleus stops as soon as it holds `p` exactly (VAR's rule); without, it continues until it holds
    more (LlamaGen's). The two differ only where a cumulative sum equals `p`.
    """
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    likelier = ordered.softmax(-1).cumsum(-1)[..., :-1]  # mass before each token but the first
    outside = torch.zeros_like(order, dtype=torch.bool)
    (torch.ge if reach else torch.gt)(likelier, p, out=outside[..., 1:])
    return logits.masked_fill(torch.empty_like(outside).scatter_(-1, order, outside), -torch.inf)


def token_probabilities(logits: Tensor, sampling: Sampling, *, reach: bool = False) -> Tensor:
    """(..., V) float32 probabilities to draw from: temperature, then top-k, then nucleus."""
    logits = logits.float()
    if sampling.temperature != 1:
        logits = logits / max(sampling.temperature, COLDEST)  # 0: the most likely token
    if sampling.top_k is not None:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p is not None and sampling.top_p < 1:
        logits = keep_top_p(logits, sampling.top_p, reach=reach)
    return logits.softmax(-1)


def draw_tokens(
    logits: Tensor, sampling: Sampling, noise: Noise, stream: str, *, start: int = 0, reach: bool = False
) -> Tensor:
    """(B, n) int64 drawn from logits (B, n, V) with the numbers of `stream` from `start` on.

    Goes over the positions in parts: sorting and summing in float64 takes several times the memory of the logits.
    """
    rows, _, vocabulary = logits.shape
    at_once = max(1, DRAWN_AT_ONCE // (rows * vocabulary))
    drawn = [
        noise.categorical(token_probabilities(part, sampling, reach=reach), stream, start=start + index * at_once)
        for index, part in enumerate(logits.split(at_once, dim=1))
    ]
    return torch.cat(drawn, dim=1)


def check_replayable(settings: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise InputError for a recorded generation that draws at random or has settings nobody here understands."""
    strange = sorted(settings.keys() - set(known))
    if strange or not settings.get("greedy", False):
        why = f"unknown settings: {', '.join(strange)}" if strange else "it drew at random; only greedy draws repeat"
        raise InputError("cannot replay this generation", why, f"known settings: {', '.join(sorted(known))}")


def check_silent(settings: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise InputError for a recorded generation with real noise or with settings nobody here understands."""
    strange = sorted(settings.keys() - known)
    if strange or settings.get("noise") != "zeros":
        why = f"unknown settings: {', '.join(strange)}" if strange else "it drew real noise; only zeros repeat"
        raise InputError("cannot replay this generation", why, f"known settings: {', '.join(sorted(known))}")
