"""Vectors by row, in memory or on disk: what every metric over features takes. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BLOCK = 2500
"""Rows read at a time: 20 MB of float32 at D = 2048, 41 MB in float64."""


class Rows(Protocol):
    """(n, D) floats. A NumPy array is one; so is a `FeatureFile`, which reads what is asked for and keeps nothing."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        """The rows of a slice with step 1, or of an array of row numbers."""
        ...


def dense(rows: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in C order, each at an address that is a multiple of its size; a copy only where need be.

    NumPy multiplies other arrays (a member of an npz may begin anywhere in its file) by other routines of BLAS, which
    round otherwise on some processors.
    """
    return np.require(rows, requirements=("C", "A"))


def blocks(rows: Rows, size: int = BLOCK) -> Iterator[NDArray[np.float64]]:
    """The rows in order as float64 blocks of `size`, the last one shorter."""
    for start in range(0, len(rows), size):
        yield np.asarray(rows[start : start + size], dtype=np.float64)
