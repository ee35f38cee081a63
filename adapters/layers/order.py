"""The orders in which a grid of tokens may be decoded."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from arbench.protocols import Noise


def decoding_order(noise: Noise, fixed: Tensor | None, side: int) -> Tensor:
    """(B, side^2) int64: the raster index of the token that each sample decodes first, second, ...

    `fixed` is the `fixed_order` of all samples; None: each has a random one.
    """
    if fixed is None:
        return noise.permutation("order", side * side)
    return fixed.expand(noise.batch, -1)


def fixed_order(kind: Literal["raster", "random", "halton"], side: int, device: torch.device | str) -> Tensor | None:
    """(side^2,) int64, on the device, of an order that is the same for all samples; None for a random one."""
    if kind == "random":
        return None
    return torch.tensor(range(side * side) if kind == "raster" else halton_cells(side), device=device)


def to_raster(drawn: Tensor, order: Tensor) -> Tensor:
    """Tokens (B, L) in raster order, from those in the order (B, L) of decoding."""
    return torch.empty_like(drawn).scatter_(1, order, drawn)


@lru_cache(maxsize=8)
def halton_cells(side: int) -> tuple[int, ...]:
    """Cells of a grid as the Halton sequence (bases 2 and 3) first visits them: spread evenly at any time."""
    seen: dict[int, None] = {}
    index = 0
    while len(seen) < side * side:
        index += 1
        row, column = int(side * _radical_inverse(index, 2)), int(side * _radical_inverse(index, 3))
        seen.setdefault(row * side + column)
    return tuple(seen)


def _radical_inverse(index: int, base: int) -> float:
    """The digits of `index`, mirrored at the point."""
    result, weight = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        weight /= base
        result += digit * weight
    return result
