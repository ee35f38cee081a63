"""Rotary positions on a square grid of tokens (RoFormer, arXiv:2104.09864, in its two-axis form)."""

from __future__ import annotations

import torch
from torch import Tensor


def grid_rotations(
    side: int, width: int, *, base: float = 10000.0, condition: int = 0, columns: int | None = None
) -> Tensor:
    """(condition + side^2, width / 2, 2): cosine and sine for each token and pair of channels of a head.

    The first half of the pairs turns with the row, the second with the column, of which there are as many unless
    `columns` says otherwise. The rows of the `condition` tokens in front are zero, not the identity: LlamaGen's
    condition tokens have zero queries and keys. `width` is a head's, a multiple of 4.
    """
    angles = torch.outer(torch.arange(max(side, columns or 0)).float(), _rates(width, base))
    return _on_grid(angles[:side], condition, angles[:columns] if columns else None)


def stretched_rotations(
    side: int, width: int, *, factor: float, boundary: int, base: float = 10000.0, condition: int = 0
) -> Tensor:
    """`grid_rotations` for a grid `factor` times as fine as in training, NTK-like, as RandAR extrapolates.

    The `boundary` fastest pairs of each axis count cells as ever; the slower ones span the coarse grid's angles.
    """
    rates = _rates(width, base)
    angles = torch.outer(torch.arange(side).float(), rates)
    squeezed = torch.linspace(0, int(side // factor) - 1, side)
    angles[:, boundary:] = torch.outer(squeezed, rates)[:, boundary:]
    return _on_grid(angles, condition)


def _rates(width: int, base: float) -> Tensor:
    """(width / 4,) radians per cell of the pairs of one axis."""
    half = width // 2
    return 1.0 / base ** (torch.arange(0, half, 2).float() / half)


def _on_grid(angles: Tensor, condition: int, across: Tensor | None = None) -> Tensor:
    """(condition + h * w, width / 2, 2) from the angles (h, width / 4) of the rows and (w, width / 4) of the columns,
    which are the same unless given."""
    across = angles if across is None else across
    (height, quarter), width = angles.shape, len(across)
    rows = angles[:, None].expand(-1, width, -1)
    columns = across[None].expand(height, -1, -1)
    grid = torch.cat((rows, columns), dim=-1).flatten(0, 1)  # (h * w, width / 2)
    turned = torch.stack((grid.cos(), grid.sin()), dim=-1)
    return torch.cat((torch.zeros(condition, 2 * quarter, 2), turned))


def rotate_pairs(x: Tensor, rotations: Tensor) -> Tensor:
    """`x` (B, H, L, D) with neighbouring channels (0 1), (2 3), ... turned by `rotations` (L, D / 2, 2), in float32."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = rotations.unbind(-1)
    return torch.stack((even * cosine - odd * sine, odd * cosine + even * sine), dim=-1).flatten(-2).type_as(x)


def rotate_halves(x: Tensor, rotations: Tensor) -> Tensor:
    """`x` (B, H, L, D) with channel i paired with i + D / 2, as Llama does, in float32.

    `rotations` (2, B, 1, L, D) are cosines and sines, one for every channel: the two of a pair may differ.
    """
    cosine, sine = rotations.unbind(0)
    wide = x.float()
    low, high = wide.chunk(2, dim=-1)
    return (wide * cosine + torch.cat((-high, low), dim=-1) * sine).type_as(x)


def spread_rotations(side: int, width: int, *, span: float, base: float = 10000.0) -> Tensor:
    """`grid_rotations` for a grid whose cells lie `span / side` apart, so that every grid covers the same range."""
    return _on_grid(torch.outer(torch.arange(side) / side * span, _rates(width, base)), 0)
