"""Features of a run's cell, read from the units that it has stored: nothing is copied. Imports no torch."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.stream import Tally
from ..errors import DamagedFile
from ..npy_files import NPZ_DAMAGE, npy_header, read_member
from .feature_set import Output, PictureRecord, labels_of
from .vectors import HELD

FEATURES, CONVENTION, VALUE = "features:", "convention:", "value:"
"""Prefixes of a unit's arrays: (n, D) vectors of "recipe:output", what decides them, (n,) metrics of image pairs."""
PROMPTS = "prompts"
"""Array of what each sample was drawn from, in units of text-to-image models."""
UNIT = ("sample_ids", "labels", "digests", "keys", "size")
"""Arrays that every unit of samples has: (n,) each, and the (height, width) of all its images."""


class UnitFile(Mapping[str, NDArray[Any]]):
    """The arrays of a unit's npz, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        """The open file. Raises `DamagedFile` if it is missing, or if what is read of it is damaged."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except NPZ_DAMAGE as error:
            raise DamagedFile(
                f"cannot read {self.path}", f"{type(error).__name__}: {error}", "arbench resume DIR computes it again"
            ) from error

    @cached_property
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        with self._archive() as archive:
            return {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

    def __iter__(self) -> Any:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._members:
            raise KeyError(name)
        with self._archive() as archive:
            return read_member(archive, self._members[name], f"{name} of {self.path}")

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, without reading it."""
        with self._archive() as archive, archive.open(self._members[name]) as member:
            return npy_header(member)[0]


class UnitRows:
    """(n, D) float32 rows of one array over all units, a `Vectors`; small ones stay in memory once read."""

    def __init__(self, units: Sequence[UnitFile], name: str, starts: NDArray[np.int64], length: int) -> None:
        self._units, self._name, self._starts = units, name, starts
        self.shape = (int(starts[-1]), length)
        self._held: NDArray[np.float32] | None = None
        self._last: tuple[int, NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any, /) -> NDArray[np.float32]:
        wanted = np.arange(len(self))[index].reshape(-1)
        if self._held is None and 4 * self.shape[0] * self.shape[1] <= HELD:
            self._held = np.concatenate([unit[self._name] for unit in self._units]).astype(np.float32, copy=False)
        if self._held is not None:
            return self._held[index] if isinstance(index, slice) else self._held[wanted]
        out = np.empty((len(wanted), self.shape[1]), np.float32)
        places = np.searchsorted(self._starts, wanted, side="right") - 1
        for place in np.unique(places).tolist():
            here = places == place
            out[here] = self._unit(place)[wanted[here] - self._starts[place]]
        return out

    def _unit(self, place: int) -> NDArray[np.float32]:
        """The rows of one unit; the last one read is kept, for slices that end within it."""
        if self._last is None or self._last[0] != place:
            self._last = place, self._units[place][self._name]
        return self._last[1]


class UnitFeatures:
    """The `Features` of one recipe, or ("" as `recipe`) the metrics of image pairs, of all units of a cell."""

    def __init__(self, source: str, units: Sequence[UnitFile], recipe: str = "") -> None:
        self.source = source
        self._units = units
        counts = [unit.shape("sample_ids")[0] for unit in units]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.tally = Tally(read=len(self))
        first = units[0]
        names = [name.removeprefix(FEATURES) for name in first if name.startswith(f"{FEATURES}{recipe}:")]
        self.outputs = {
            name: Output(name, first.shape(FEATURES + name)[1], str(first[CONVENTION + name]))
            for name in (names if recipe else ())
        }

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def pictures(self) -> list[PictureRecord]:
        found: list[PictureRecord] = []
        for unit in self._units:
            ids, labels, digests, keys, (height, width) = (unit[name].tolist() for name in UNIT)
            values = {name.removeprefix(VALUE): unit[name].tolist() for name in unit if name.startswith(VALUE)}
            for row, sample_id in enumerate(ids):
                label = labels[row] if labels[row] >= 0 else None
                own = {name: rows[row] if np.isfinite(rows[row]) else None for name, rows in values.items()}
                found.append(PictureRecord(sample_id, keys[row], height, width, label, digests[row], own))
        return found

    @property
    def labels(self) -> NDArray[np.int64] | None:
        return labels_of(self.pictures)

    def rows(self, output: str) -> UnitRows:
        return UnitRows(self._units, FEATURES + output, self._starts, self.outputs[output].length)


def recipes_in(unit: UnitFile) -> list[str]:
    """The recipes whose vectors a unit holds."""
    return list(dict.fromkeys(name.split(":")[1] for name in unit if name.startswith(FEATURES)))
