"""Infinity's scales: which belong together, and how their places turn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from arbench.errors import ConfigError

Size = tuple[int, int]

_ROWS = {
    "1": "1 2 4 6 8 12 16 20 24 32 40 48 64",
    "1.25": "1 2 3 5 10 15 20 25 30 35 45 55 70 / 1 2 3 4 8 12 16 20 24 28 36 44 56",
    "1.333": "1 2 4 8 12 16 20 24 28 36 48 60 72 / 1 2 3 6 9 12 15 18 21 27 36 45 54",
    "1.5": "1 2 3 6 9 15 21 27 33 39 48 63 78 / 1 2 2 4 6 10 14 18 22 26 32 42 52",
    "1.75": "1 2 3 7 11 14 21 28 35 42 56 70 84 / 1 2 3 4 6 8 12 16 20 24 32 40 48",
    "2": "1 2 4 6 10 16 22 30 38 46 60 74 90 / 1 2 2 3 5 8 11 15 19 23 30 37 45",
    "2.5": "1 2 5 10 15 20 25 30 40 50 65 80 100 / 1 2 2 4 6 8 10 12 16 20 26 32 40",
    "3": "1 2 6 9 15 21 27 36 45 54 72 90 111 / 1 2 2 3 5 7 9 12 15 18 24 30 37",
}
"""Height over width -> rows, and columns where they differ, of the scales of a million pixels."""


def _schedules() -> list[tuple[Size, ...]]:
    found: list[tuple[Size, ...]] = []
    for rows in _ROWS.values():
        heights, _, widths = rows.partition(" / ")
        pair = [[int(n) for n in part.split()] for part in (heights, widths or heights)]
        upright = tuple(zip(pair[0], pair[1], strict=True))
        found += [upright, tuple((width, height) for height, width in upright)]
    return found


def largest_of(sizes: Sequence[Size]) -> Size:
    """Rows and columns of the last scale of a million pixels, of the schedule that `sizes` begin."""
    for schedule in _schedules():
        if schedule[: len(sizes)] == tuple(sizes):
            return schedule[-1]
    raise ConfigError(
        f"no Infinity schedule begins with {' '.join(f'{height}x{width}' for height, width in sizes)}",
        "places turn as in the schedule of the same aspect ratio at a million pixels",
        "use one of the official schedules, or its first scales",
    )


def scale_rotations(sizes: Sequence[Size], width: int, *, spread: bool, base: float = 10000.0) -> Tensor:
    """(L, width / 2, 2) rotations of the places of all scales: half of the pairs by the row, half by the column.

    With `spread` the places of every scale are spread over the largest one's, rounded half to even.
    """
    half = width // 2
    rates = 1.0 / base ** (torch.arange(0, half, 2).float() / half)
    largest = largest_of(sizes) if spread else (0, 0)
    parts = []
    for height, columns in sizes:
        rows, cells = torch.arange(height).float(), torch.arange(columns).float()
        if spread:
            rows, cells = (rows * (largest[0] / height)).round(), (cells * (largest[1] / columns)).round()
        by_row = torch.outer(rows, rates)[:, None].expand(height, columns, -1)
        by_column = torch.outer(cells, rates)[None].expand(height, columns, -1)
        parts.append(torch.cat((by_row, by_column), dim=-1).flatten(0, 1))
    angles = torch.cat(parts)
    return torch.stack((angles.cos(), angles.sin()), dim=-1)
