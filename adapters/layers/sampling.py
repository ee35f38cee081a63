"""What all generators share when they draw tokens: checking the request, mixing guidance, filtering logits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from arbench.errors import InputError, Unsupported
from arbench.kernel_choice import agreed
from arbench.protocols import Card, Guidance, Noise, Sampling
from arbench.seeds import Philox, invert_cdf
from arbench.spec.sampling import COLDEST

from .attention import probing

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


def weights_of_steps(guidance: Guidance, steps: int, last: int) -> list[float | None]:
    """The guidance weight of each step, the schedule's at step / `last`; None where only the conditional half counts.

    That is after the fraction `until`, and where the weight is 1, as at the start of schedules that grow from there.
    """
    guided = guided_steps(guidance, steps)
    weights = [guidance.weight(step / last) for step in range(guided)]
    return [None if weight == 1 else weight for weight in weights] + [None] * (steps - guided)


def mix_guidance(logits: Tensor, weight: float) -> Tensor:
    """(B, ...): `uncond + weight * (cond - uncond)` from a doubled batch (2B, ...), conditional half first."""
    return mix_halves(*logits.chunk(2), weight)


def mix_halves(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """(B, ...) from (B, ...) and as many or, where it is the same for all, one (1, ...) without a condition."""
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
    return _filtered(_tempered(logits, sampling.temperature), sampling.top_k, sampling.top_p, reach)


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature == 1 else logits.float() / max(temperature, COLDEST)  # 0: the most likely token


def _filtered(logits: Tensor, top_k: int | None, top_p: float | None, reach: bool) -> Tensor:
    logits = logits.float()
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None and top_p < 1:
        logits = keep_top_p(logits, top_p, reach=reach)
    return logits.softmax(-1)


def draw_tokens(
    logits: Tensor, sampling: Sampling, noise: Noise, stream: str, *, start: int = 0, reach: bool = False
) -> Tensor:
    """(B, n) int64 drawn from logits (B, n, V) with the numbers of `stream` from `start` on.

    Goes over the positions in parts: sorting and summing in float64 takes several times the memory of the logits. On
    CUDA one kernel does it all where its probe agreed with that; other noise than a run's has no numbers to give it.
    """
    if logits.is_cuda and type(noise) is Philox:
        uniform = noise.uniform(stream, logits.shape[1], start)
        logits = _tempered(logits, sampling.temperature)
        drawn: Tensor = torch.ops.arbench.draw_tokens(logits, uniform, sampling.top_k, sampling.top_p, reach)
        return drawn
    parts, at_once = _in_parts(logits)
    return torch.cat(
        [
            noise.categorical(token_probabilities(part, sampling, reach=reach), stream, start=start + index * at_once)
            for index, part in enumerate(parts)
        ],
        dim=1,
    )


def _in_parts(logits: Tensor) -> tuple[tuple[Tensor, ...], int]:
    """Logits (B, n, V) along n, and how many positions a part has."""
    rows, _, vocabulary = logits.shape
    at_once = max(1, DRAWN_AT_ONCE // (rows * vocabulary))
    return logits.split(at_once, dim=1), at_once


# ---- drawing by given numbers, on CUDA -------------------------------------------------------------------------------


def draw_by(logits: Tensor, uniform: Tensor, top_k: int | None, top_p: float | None, reach: bool) -> Tensor:
    """(B, n) int64 from logits (B, n, V) and float64 `uniform` (B, n), by the Triton kernel where its probe agreed.

    An operation of torch (`arbench::draw_tokens`), so that compiled code calls it as it is.
    """
    vocabulary = logits.shape[-1]
    if vocabulary <= LARGEST_VOCABULARY:
        kind = f"{str(logits.dtype).removeprefix('torch.')}, {vocabulary} tokens, k {top_k}, p {top_p}"
        setting = f"{logits.device}, {kind}{', reach' if reach else ''}"
        if agreed("draw_tokens", setting, lambda: _probe(logits, top_k, top_p, reach), now=probing(logits.device)):
            from .draw_kernel import draw

            drawn = draw(logits.flatten(0, 1), uniform.flatten(), top_k=top_k, top_p=top_p, reach=reach)
            return drawn.view(uniform.shape)
    parts, at_once = _in_parts(logits)
    numbers = uniform.split(at_once, dim=1)
    return torch.cat([_draw_plainly(*each, top_k, top_p, reach) for each in zip(parts, numbers, strict=True)], dim=1)


LARGEST_VOCABULARY = 2**15
"""That of which one program of the kernel can hold a row."""
_PROBED = 256
"""Draws of a probe."""


def _draw_plainly(logits: Tensor, uniform: Tensor, top_k: int | None, top_p: float | None, reach: bool) -> Tensor:
    return invert_cdf(_filtered(logits, top_k, top_p, reach), uniform)


def _probe(like: Tensor, top_k: int | None, top_p: float | None, reach: bool) -> str:
    """How tokens of the kernel and of the plain path differ, some of the logits being equal or -inf; "" if in none."""
    from .draw_kernel import draw

    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(_PROBED, like.shape[-1], generator=random)
    logits[::2] = logits[::2].bfloat16().float()
    logits[::8, 1::2] = -torch.inf
    logits = logits.to(like.device, like.dtype)
    uniform = torch.rand(_PROBED, dtype=torch.float64, generator=random).to(like.device)
    wanted = _draw_plainly(logits[:, None], uniform[:, None], top_k, top_p, reach)[:, 0]
    differ = int((draw(logits, uniform, top_k=top_k, top_p=top_p, reach=reach) != wanted).sum())
    return f"{differ} of {_PROBED} tokens of the probe differ" if differ else ""


_OPERATIONS = torch.library.Library("arbench", "FRAGMENT")
_OPERATIONS.define("draw_tokens(Tensor logits, Tensor uniform, int? top_k, float? top_p, bool reach) -> Tensor")
_OPERATIONS.impl("draw_tokens", draw_by, "CompositeExplicitAutograd")


@torch.library.register_fake("arbench::draw_tokens", lib=_OPERATIONS)
def _shape(logits: Tensor, uniform: Tensor, top_k: int | None, top_p: float | None, reach: bool) -> Tensor:
    return uniform.new_empty(uniform.shape, dtype=torch.int64)


# ---- recorded generations --------------------------------------------------------------------------------------------


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
