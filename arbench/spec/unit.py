"""Units: the pieces of work that a cell is cut into."""

from __future__ import annotations

import functools

from .base import Frozen

UNIT_SIZE = 64
"""Sample ids per unit. Part of no identity: what a unit holds does not depend on where it is cut."""


class Unit(Frozen):
    """A range of sample ids (or image indices) with fixed boundaries: computed, stored and resumed as one."""

    index: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.start:06d}-{self.stop:06d}"


@functools.lru_cache(maxsize=16)
def cut(n: int, size: int = UNIT_SIZE) -> tuple[Unit, ...]:
    """Units of at most `size` samples with boundaries at multiples of it."""
    return tuple(
        Unit(index=index, start=start, stop=min(start + size, n)) for index, start in enumerate(range(0, n, size))
    )


def one_per_batch(batches: tuple[int, ...], rounds: int = 1) -> tuple[Unit, ...]:
    """A unit for each batch size, its `start`, in each of several rounds; `stop` is the batch size and the round."""
    places = [(batch, round_) for round_ in range(rounds) for batch in batches]
    return tuple(Unit(index=index, start=batch, stop=batch + round_) for index, (batch, round_) in enumerate(places))
