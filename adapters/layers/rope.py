"""Rotary positions on a square grid of tokens (RoFormer, arXiv:2104.09864, in its two-axis form)."""

from __future__ import annotations

import torch
from torch import Tensor


def grid_rotations(side: int, width: int, *, base: float = 10000.0, condition: int = 0) -> Tensor:
    """(condition + side^2, width / 2, 2): cosine and sine for each token and pair of channels of a head.

    The first half of the pairs turns with the row, the second with the column. The rows of the `condition` tokens
    in front are zero, not the identity: LlamaGen's condition tokens have zero queries and keys.
    `width` is a head's, a multiple of 4.
    """
    half = width // 2
    rates = 1.0 / base ** (torch.arange(0, half, 2).float() / half)  # (width / 4,)
    angles = torch.outer(torch.arange(side).float(), rates)
    rows = angles[:, None].expand(side, side, -1)
    columns = angles[None].expand(side, side, -1)
    grid = torch.cat((rows, columns), dim=-1).flatten(0, 1)  # (side^2, width / 2)
    turned = torch.stack((grid.cos(), grid.sin()), dim=-1)
    return torch.cat((torch.zeros(condition, half, 2), turned))


def rotate_pairs(x: Tensor, rotations: Tensor) -> Tensor:
    """`x` (B, H, L, D) with neighbouring channels (0 1), (2 3), ... turned by `rotations` (L, D / 2, 2), in float32."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = rotations.unbind(-1)
    return torch.stack((even * cosine - odd * sine, odd * cosine + even * sine), dim=-1).flatten(-2).type_as(x)
