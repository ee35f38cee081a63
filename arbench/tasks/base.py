"""What a task offers to the runner, and what the runner's worker offers to a task. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..spec.cell import Cell, Unit
from ..spec.result import Metric, SpeedRecord

if TYPE_CHECKING:
    from ..data.indexed import ImageSource
    from ..protocols import Generator, Tokenizer

Arrays = dict[str, NDArray[Any]]
UNIT_SIZE = 64
"""Sample ids per unit. Part of no identity: what a unit holds does not depend on where it is cut."""


@dataclass(frozen=True)
class Finished:
    """What a cell comes to: metrics, phase times, and small files for the report (name -> bytes)."""

    metrics: tuple[Metric, ...]
    speed: tuple[SpeedRecord, ...] = ()
    artifacts: Mapping[str, bytes] = field(default_factory=dict)


class Context(Protocol):
    """What a worker holds for its cells: the device, loaded adapters, data. Everything is loaded once and kept."""

    @property
    def device(self) -> str: ...

    def generator(self, cell: Cell) -> Generator: ...

    def tokenizer(self, cell: Cell) -> Tokenizer:
        """The tokenizer of the cell: the adapter itself, or the one that its generator uses."""
        ...

    def source(self, name: str) -> ImageSource: ...

    def reference(self, name: str) -> NDArray[np.float32]:
        """(N, D) features of all images of a source, by the shared extractor; computed once and kept on disk."""
        ...

    def weight_files(self, cell: Cell) -> Mapping[str, Path]:
        """The weight files behind the cell, by adapter name: its own and its tokenizer's, where there are any."""
        ...

    def shared(self, key: str) -> Any:
        """An object built once per worker by `SHARED[key]`: the feature extractor, the classifier."""
        ...

    def progress(self, done: int) -> None:
        """Tells the supervisor how many samples or calls of the unit are done."""
        ...


class Task(Protocol):
    """One of the tasks. `measure` does the work of a unit; `finish` turns all units of a cell into metrics."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        """The unit's arrays, stored as one npz before the next unit starts."""
        ...

    def finish(self, cell: Cell, units: Sequence[Arrays], context: Context) -> Finished:
        """`units` in order, as `measure` returned them, perhaps in an earlier process."""
        ...


def cut(n: int, size: int = UNIT_SIZE) -> tuple[Unit, ...]:
    """Units of at most `size` samples with boundaries at multiples of it."""
    return tuple(
        Unit(index=index, start=start, stop=min(start + size, n)) for index, start in enumerate(range(0, n, size))
    )


def joined(units: Sequence[Arrays], name: str) -> NDArray[Any]:
    """One array of all units, in order of sample id."""
    return np.concatenate([unit[name] for unit in units])
