"""Vectors of images as rows of a file, read as they are asked for. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Vectors(Protocol):
    """(n, D) float32 rows, read as they are asked for: see `arbench.metrics.rows.Rows`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> NDArray[np.float32]: ...


HELD = 1 << 27
"""Bytes up to which a file's rows are kept in memory once they were asked for out of order: 16,000 rows of 2048."""


class FeatureFile:
    """(n, D) float32 rows of a file, a `Rows`: reads what is asked for, and keeps nothing of a large file."""

    def __init__(self, path: Path, count: int, length: int) -> None:
        self.shape = (count, length)
        self._path = path
        self._held: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any, /) -> NDArray[np.float32]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._read(start, max(0, stop - start))
            index = np.arange(start, stop, step)
        wanted = np.asarray(index)
        if wanted.dtype == np.bool_:
            wanted = np.flatnonzero(wanted)
        wanted = wanted.astype(np.int64).reshape(-1)
        if len(wanted) and (wanted.min() < -len(self) or wanted.max() >= len(self)):
            raise IndexError(f"{self._path.name} has {len(self)} rows")
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        return self._gathered(wanted)

    def _read(self, start: int, count: int) -> NDArray[np.float32]:
        rows = np.fromfile(self._path, np.float32, count * self.shape[1], offset=start * self.shape[1] * 4)
        return rows.reshape(count, self.shape[1])

    def _gathered(self, wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows in any order: of a large file, runs of neighbours are read in one piece."""
        if self._held is None and 4 * self.shape[0] * self.shape[1] <= HELD:
            self._held = self._read(0, len(self))
        if self._held is not None:
            return self._held[wanted]
        out = np.empty((len(wanted), self.shape[1]), np.float32)
        by_place = np.argsort(wanted, kind="stable")
        places = wanted[by_place]
        cuts = np.flatnonzero(np.diff(places) != 1) + 1
        for run in np.split(by_place, cuts):
            if len(run):
                out[run] = self._read(int(wanted[run[0]]), len(run))
        return out
