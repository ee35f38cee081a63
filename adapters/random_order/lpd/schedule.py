"""LPD's groups: their sizes, and orders in which they are near to what is known and far from each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

LISTED = {
    (256, 8): (1, 15, 24, 32, 40, 45, 49, 50),
    (256, 12): (1, 7, 11, 15, 19, 22, 25, 28, 30, 32, 33, 33),
    (256, 16): (1, 4, 6, 8, 11, 13, 15, 17, 19, 20, 22, 23, 24, 24, 24, 25),
    (256, 24): (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 12, 13, 14, 14, 14, 15, 15, 16, 16, 16, 17, 17),
    (256, 32): (1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 10, *(11,) * 4, *(12,) * 8),
}
"""Upstream's lists that plain rounding does not give, of (tokens, steps): `orders/group_sizes_lookup.json`."""


def group_sizes(tokens: int, steps: int) -> tuple[int, ...]:
    """Tokens of each step: upstream's list, or the cosine that it follows, rounded, with at least one each.

    Of several steps the first has one token. What rounding leaves over is added to, or taken from, the last steps.
    """
    if (tokens, steps) in LISTED:
        return LISTED[tokens, steps]
    unknown = [tokens * math.cos(math.pi / 2 * step / steps) for step in range(steps + 1)]
    sizes = [max(1, round(before - after)) for before, after in pairwise(unknown)]
    if steps > 1:
        sizes[0] = 1
    index = steps - 1
    while (excess := sum(sizes) - tokens) != 0:
        change = -1 if excess > 0 else 1
        if sizes[index] + change >= 1:
            sizes[index] += change
        index = index - 1 if index > 1 else steps - 1
    return tuple(sizes)


def local_order(sizes: Sequence[int], side: int, random: np.random.Generator, repulsion: float) -> list[int]:
    """Raster indices of a grid of `side` in an order of groups of `sizes`, as upstream draws them.

    The first token is anywhere, others of its group far from it. Each further group takes the cells with most known
    neighbours (nearness is the sum of 1 / distance over the eight neighbours, at least 1), ties at random, unless
    within `repulsion` rows and columns of one that it has; what is missing is filled with the farthest cells.
    """
    rows, columns = np.divmod(np.arange(side * side), side)
    cells = np.stack((rows, columns), axis=1).astype(float)
    near = np.zeros(side * side)
    known = np.zeros(side * side, dtype=bool)
    order: list[int] = []
    for step, size in enumerate(sizes):
        if step == 0:
            chosen = [int(random.integers(side * side))]
            others = [cell for cell in range(side * side) if cell != chosen[0]]
            chosen += _farthest(chosen, others, cells, size - 1, random)
        else:
            free = random.permutation(np.flatnonzero(~known))
            free = free[np.argsort(-near[free], kind="stable")]
            chosen = _near_and_apart(free[near[free] >= 1], cells, size, repulsion)
            taken = set(chosen)
            rest = [int(cell) for cell in free if int(cell) not in taken]
            chosen += _farthest(chosen, rest, cells, size - len(chosen), random)
        order += chosen
        known[chosen] = True
        for cell in chosen:
            apart = np.abs(cells - cells[cell])
            beside = (apart.max(axis=1) == 1).nonzero()[0]
            near[beside] += 1.0 / np.hypot(apart[beside, 0], apart[beside, 1])
    return order


def _near_and_apart(free: np.ndarray, cells: np.ndarray, size: int, repulsion: float) -> list[int]:
    chosen: list[int] = []
    for cell in free:
        if len(chosen) == size:
            break
        if not chosen or (np.abs(cells[chosen] - cells[cell]).max(axis=1) > repulsion).all():
            chosen.append(int(cell))
    return chosen


def _farthest(
    chosen: Sequence[int], rest: Sequence[int], cells: np.ndarray, count: int, random: np.random.Generator
) -> list[int]:
    """`count` of `rest`, each the farthest from those chosen before it."""
    if count <= 0:
        return []
    if len(rest) <= count:
        return list(rest)
    places = cells[list(rest)]
    distance = np.full(len(rest), np.inf)
    for cell in chosen:
        distance = np.minimum(distance, np.hypot(*(places - cells[cell]).T))
    found: list[int] = []
    for _ in range(count):
        pick = int(random.integers(len(rest))) if not found and not chosen else int(distance.argmax())
        found.append(rest[pick])
        distance = np.minimum(distance, np.hypot(*(places - places[pick]).T))
        distance[pick] = 0
    return found
