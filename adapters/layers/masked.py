"""What masked generators share: Gumbel noise on confidences, which tokens are masked after a step, rows at places."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor

from arbench.protocols import Guidance, Noise

GuidanceSchedule = Literal["constant", "linear", "cosine_power"]
SMALLEST = 1e-20


def gumbel(noise: Noise, stream: str, n: int, start: int) -> Tensor:
    """(B, n) float32 Gumbel numbers: the numbers `start` to `start + n - 1` of the stream."""
    uniform = noise.uniform(stream, n, start).clamp(min=SMALLEST)
    return -(-uniform.log()).clamp(min=SMALLEST).log().float()


def least_confident(confidence: Tensor, count: Tensor) -> Tensor:
    """(B, N) bool: the `count` (B,) least confident of each row, ties with the last of them too.

    A count of 0 reaches around to the most confident, and so takes all, as the official samplers do.
    """
    place = (count - 1) % confidence.shape[1]
    threshold = confidence.sort(dim=-1).values.gather(1, place.unsqueeze(1))
    return confidence <= threshold


def over_conditional(scale: float, schedule: GuidanceSchedule, power: float = 1.0) -> Guidance:
    """Canonical guidance of `c + s (c - u)`, where `s` is constant or grows from 0: canonical weights are one more."""
    if scale == 0:
        return Guidance()
    if schedule == "constant":
        return Guidance(scale=1 + scale)
    return Guidance(scale=1 + scale, start=1.0, schedule=schedule, power=power)


def unknown_after(iterations: int, tokens: int) -> list[int]:
    """How many tokens are still unknown before the first and after each iteration.

    A cosine schedule (MaskGIT); each iteration finds at least one token while more than one is unknown, the last one
    all. With more iterations than there are tokens to find, some find none.
    """
    counts = [tokens]
    for iteration in range(1, iterations):
        planned = math.floor(tokens * math.cos(math.pi / 2 * iteration / iterations))
        counts.append(max(1, min(counts[-1] - 1, planned)))
    return [*counts, 0]


def arccos_ratio(progress: float) -> float:
    """Share of tokens that are masked at `progress` in [0, 1], by the arccos schedule."""
    return math.acos(progress) / (math.pi * 0.5)


def count_of(mask: Tensor) -> Tensor:
    """(B,) int64: how many are true in each row."""
    return mask.flatten(1).sum(1)


def split_mask(mask: Tensor) -> Tensor:
    """(B, k): the known positions, from a mask (B, L) that is 1 where a token is unknown, alike many in every row."""
    count = int((mask[0] == 0).sum())
    return mask.argsort(dim=1, stable=True)[:, :count]


def projected_once(project: Callable[[Tensor], Tensor], halves: Tensor, place: int) -> Tensor:
    """`project` of each row of both halves of guidance (2B, L, W), which differ in the one at `place`, the class."""
    given, free = halves.chunk(2)
    made = project(given).repeat(2, 1, 1)
    made[len(given) :, place] = project(free[:, place])
    return made


def gathered(x: Tensor, positions: Tensor | slice | None) -> Tensor:
    """(B, n, D): rows `positions` (B, n) of `x` (B, L, D), or of one table (L, D) for all samples; None: all rows.

    A slice is the same rows of all samples.
    """
    if positions is None:
        return x
    if isinstance(positions, slice):
        return x[..., positions, :]
    if x.ndim == 2:
        return x[positions]
    return x.gather(1, positions.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
