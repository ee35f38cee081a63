"""The orders in which a grid of tokens may be decoded."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from arbench.protocols import Noise


def decoding_order(
    kind: Literal["raster", "random", "halton"], noise: Noise, side: int, device: torch.device
) -> Tensor:
    """(B, side^2) int64: the raster index of the token that each sample decodes first, second, ..."""
    if kind == "random":
        return noise.permutation("order", side * side)
    cells = range(side * side) if kind == "raster" else halton_cells(side)
    return torch.tensor(cells, device=device).expand(noise.batch, -1)


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
