"""What a task's work offers to the runner, and what the runner's worker offers to it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..gallery import Gallery
from ..spec.cell import Cell
from ..spec.result import Metric, Remark, SetSummary, SpeedRecord
from ..spec.task import Data
from ..spec.unit import Unit

if TYPE_CHECKING:
    from ..data.indexed import ImageSource
    from ..evaluate.pairs import PairMetrics
    from ..features.extract import Extractors
    from ..features.extractor import Mode
    from ..protocols import Generator, Tokenizer

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Finished:
    """What a cell comes to: its metrics, and what goes with them.

    gallery: pictures for the report. worst: those that came out worst; worst_lpips: by LPIPS. latency: raw timings, an
    npz. files: others beside the result, by file name.
    samples, reference, remarks, weights: of the sets that were compared, see `arbench.evaluate.evaluation.Evaluation`.
    """

    metrics: tuple[Metric, ...]
    speed: tuple[SpeedRecord, ...] = ()
    gallery: Gallery | None = None
    worst: Gallery | None = None
    worst_lpips: Gallery | None = None
    latency: bytes | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    samples: SetSummary | None = None
    reference: SetSummary | None = None
    remarks: tuple[Remark, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)


class Context(Protocol):
    """What a worker holds for its cells: the device, loaded adapters, data. Everything is loaded once and kept."""

    @property
    def device(self) -> str: ...

    def generator(self, cell: Cell) -> Generator: ...

    def tokenizer(self, cell: Cell) -> Tokenizer:
        """The tokenizer of the cell: the adapter itself, or the one that its generator uses."""
        ...

    def source(self, data: Data) -> ImageSource: ...

    def extractors(self, mode: Mode) -> Extractors:
        """The feature networks, with the weights that are here."""
        ...

    def pair_metrics(self, variants: Sequence[str]) -> PairMetrics:
        """Metrics of image pairs by name, with the weights that are here."""
        ...

    def weight_files(self, cell: Cell) -> Mapping[str, Path]:
        """The weight files behind the cell, by adapter name: its own and its tokenizer's, where there are any."""
        ...

    def shared(self, key: str) -> Any:
        """An object built once per worker by `SHARED[key]`: the classifier."""
        ...

    def kept(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` gave when this key was asked for first: for what the units of a cell share. One key at a time."""
        ...

    def progress(self, done: int) -> None:
        """Tells the supervisor how many samples or calls of the unit are done."""
        ...


Stored = Mapping[str, NDArray[Any]]
"""A unit as it was stored; an array is read from disk when it is asked for."""


class Work(Protocol):
    """The work of a task, run without gradients. `measure` does a unit; `finish` turns all units into metrics."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        """The unit's arrays, stored as one npz before the next unit starts."""
        ...

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        """`units` in order, as `measure` returned them, perhaps in an earlier process."""
        ...


def joined(units: Sequence[Stored], name: str, limit: int | None = None) -> NDArray[Any]:
    """One array of all units in order of sample id, or its first `limit` rows, of which no more is read."""
    parts, count = [], 0
    for unit in units:
        if limit is not None and count >= limit:
            break
        parts.append(unit[name])
        count += len(parts[-1])
    return np.concatenate(parts)[:limit] if parts else np.zeros(0)
