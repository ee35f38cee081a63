"""The samples behind a result, one by one: ids, vectors, values and images, as its folder holds them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifacts import REDO
from ..data.reading import is_statistics
from ..data.statistics import kept, published
from ..data.statistics.model import ReferenceStatistics
from ..data.statistics.read import read_statistics
from ..errors import ArbenchError, DamagedFile
from ..evaluate.conventions import conventions
from ..evaluate.definition import Definition
from ..evaluate.set_identity import identity_of
from ..features.feature_folder import cache_folder
from ..features.feature_set import FeatureSet, read_header
from ..features.unit_features import CONVENTION, FEATURES, VALUE, UnitFile, UnitRows
from ..metrics.rows import Rows
from ..metrics.sets.kernel import ON_HOST, Kind, Sums
from ..metrics.sets.moments import Factored, Moments
from ..remote.cached import local
from ..report.folders import Entry
from ..spec.result import Metric

CLOSE = 1e-5
"""Relative distance up to which a number is the mean of values."""


@dataclass(frozen=True)
class Vectors:
    """(n, D) rows of one output, and what decides their numbers."""

    rows: Rows
    convention: str


class Reordered:
    """The rows of a set in another order, a `Rows`."""

    def __init__(self, rows: Rows, order: NDArray[np.int64]) -> None:
        self._rows, self._order = rows, order
        self.shape = (len(order), rows.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        return self._rows[self._order[index]]


def definition_of(metric: Metric) -> Definition | None:
    """How its convention defines a number; None for those of tasks, and of conventions that are not installed."""
    convention = conventions().get(metric.convention)
    found = convention.definitions if convention is not None else ()
    return next((each for each in found if each.metric == metric.name), None)


class Samples:
    """What is on disk of the samples of one result: units of a run's cell, or the table and features of a score."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        place = entry.folder
        of_cell = str(entry.result.parameters.get("samples", "")) if entry.result.task == "score" else ""
        run, _, cell = of_cell.rpartition(":")
        if cell.startswith("res-") and (Path(run) / "cells" / cell).is_dir():  # a score of a run's cell
            place = Path(run) / "cells" / cell
        self._units = [UnitFile(path) for path in sorted((place / "units").glob("*.npz"))]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """What names each sample, in order; empty where they are not on disk."""
        for name in ("sample_ids", "image_ids"):
            if self._units and name in self._units[0]:
                return tuple(str(each) for each in self._array(name).tolist())
        if not self._units and "key" in self._table:
            return tuple(self._table["key"])
        return ()

    def _array(self, name: str) -> NDArray[Any]:
        return np.concatenate([unit[name] for unit in self._units])

    @cached_property
    def _table(self) -> Mapping[str, Sequence[Any]]:
        """Columns of samples.parquet, which a score writes."""
        path = self._entry.folder / "samples.parquet"
        if not path.is_file():
            return {}
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # without threads of Arrow, which now and then abort the process where it ends right after
            file = pq.ParquetFile(io.BytesIO(path.read_bytes()), pre_buffer=False)
            return dict(file.read(use_threads=False).to_pydict())
        except (OSError, pa.ArrowException) as error:
            raise DamagedFile(f"cannot read {path}", str(error), REDO) from error

    def vectors(self, output: str) -> Vectors | None:
        """Of every sample in order, or None where they are not on disk."""
        if self._units:
            name = FEATURES + output
            if any(name not in unit for unit in self._units):
                return None
            counts = [unit.shape(name)[0] for unit in self._units]
            starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            rows = UnitRows(self._units, name, starts, self._units[0].shape(name)[1])
            return Vectors(rows, str(self._units[0][CONVENTION + output]))
        summary = self._entry.result.samples
        if summary is None or not summary.digest:
            return None
        return _kept_set(self._entry.folder.parents[1], output, "", summary.digest)

    def values(self, metric: Metric) -> NDArray[np.float64] | None:
        """One value for each sample whose mean is the number, or None where there are none.

        What is tried: hits of the classifier, likelihoods up to a factor, and values stored under the metric's name.
        That their mean is the number is the proof that they are its own.
        """
        for found in self._candidates(metric):
            if metric.value is not None and len(found) and np.isfinite(found).all():
                mean = float(found.mean())
                if abs(mean - metric.value) <= CLOSE * max(abs(metric.value), 1e-12):
                    return found
        return None

    def _candidates(self, metric: Metric) -> Iterator[NDArray[np.float64]]:
        first: Mapping[str, NDArray[Any]] = self._units[0] if self._units else {}
        if metric.name == "class-agreement" and "predicted" in first and "labels" in first:
            yield (self._array("predicted") == self._array("labels")).astype(np.float64)
        if "nats" in first and metric.value is not None:
            nats = self._array("nats")
            series = [nats]
            if "nats_wrong_class" in first:
                wrong = self._array("nats_wrong_class")
                series = [wrong] if "wrong-class" in metric.name else [wrong - nats] if "gap" in metric.name else [nats]
            for each in series:
                mean = float(each.mean())
                if mean:  # per token, per image in bits, per dimension: a factor of it
                    yield each * (metric.value / mean)
        known = definition_of(metric)
        for name in (known.variant or "" if known is not None else "", metric.name):
            if VALUE + name in first:
                yield self._array(VALUE + name).astype(np.float64)
            if name in self._table:
                yield np.array([np.nan if value is None else value for value in self._table[name]], np.float64)

    def images(self) -> Iterator[tuple[str, int, NDArray[np.uint8]]]:
        """(id, label, (3, H, W)) of the samples whose images were kept, in order."""
        for unit in self._units:
            if "images" not in unit or "sample_ids" not in unit:
                return
            for name, label, image in zip(unit["sample_ids"], unit["labels"], unit["images"], strict=True):
                yield str(int(name)), int(label), image


def order_of(old: Samples, new: Samples) -> NDArray[np.int64] | None:
    """Where each sample of the first is in the second; None unless both have the same ids, each once."""
    one, two = old.ids, new.ids
    if not one or len(one) != len(two):
        return None
    if one == two:
        return np.arange(len(one), dtype=np.int64) if len(set(one)) == len(one) else None
    places = {name: place for place, name in enumerate(two)}
    if len(places) != len(two) or set(places) != set(one) or len(set(one)) != len(one):
        return None
    return np.array([places[name] for name in one], np.int64)


# ---- the reference ---------------------------------------------------------------------------------------------------


class References:
    """Features and moments of references, as runs and scores have kept them; each is looked for once."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._rows: dict[tuple[str, str, str], Rows | None] = {}
        self._moments: dict[tuple[str, str, str], Factored | None] = {}
        self._sums: dict[tuple[str, str, str, str], Sums] = {}

    def rows(self, metric: Metric, output: str, convention: str) -> Rows | None:
        """Vectors of the images behind a number, by its reference's digest; None where they are not here."""
        if metric.reference is None or not metric.reference.digest:
            return None
        key = metric.reference.digest, output, convention
        if key not in self._rows:
            places = [folder / "cache" for folder in self._folders] + [folder / "reference" for folder in self._folders]
            found = (
                _kept_set(place, output, metric.reference.name, metric.reference.digest)
                for place in (*places, cache_folder())
            )
            one = next((each for each in found if each is not None and each.convention == convention), None)
            self._rows[key] = one.rows if one is not None else None
        return self._rows[key]

    def sums(self, metric: Metric, output: str, convention: str, kernel: Kind) -> Sums:
        """Over the pairs of a reference whose vectors are here."""
        rows, own = self.rows(metric, output, convention), metric.reference
        assert rows is not None
        assert own is not None
        key = own.digest, output, convention, kernel
        if key not in self._sums:
            self._sums[key] = ON_HOST.within(rows, kernel)
        return self._sums[key]

    def moments(self, metric: Metric, output: str, convention: str) -> Factored | None:
        """Moments of the reference: of its statistics if that is what it is, else of its vectors."""
        if metric.reference is None:
            return None
        key = metric.reference.digest or metric.reference.name, output, convention
        if key not in self._moments:
            found = _statistics(metric.reference.name, output)
            rows = self.rows(metric, output, convention) if found is None else None
            self._moments[key] = Factored.of(rows) if rows is not None else found
        return self._moments[key]


def _statistics(name: str, output: str) -> Factored | None:
    statistics: ReferenceStatistics | None = None
    try:
        if published.is_name(name):
            statistics = kept.read(kept.locate(name))
        elif is_statistics(name) and (path := Path(local(name))).is_file():
            statistics = read_statistics(path)
    except ArbenchError:
        return None  # the file has moved or changed: the difference is then an unpaired one
    stored = statistics.moments.get(output) if statistics is not None else None
    if stored is None:
        return None
    n = stored.n if stored.n is not None else 10 * len(stored.mean) + 1
    return Factored(Moments(stored.mean, stored.covariance, n), stored.cholesky)


def _kept_set(folder: Path, output: str, source: str, digest: str) -> Vectors | None:
    """The finished set below a folder whose pictures have this digest, read from `source` ("" for any)."""
    for path in sorted([*folder.glob("*/features.json"), *folder.glob("*/*/features.json")]):
        try:
            header = read_header(path.parent)
            named = any(each.get("name") == output for each in header["outputs"])
            if not named or not header["complete"] or source not in ("", header["source"]):
                continue
            one = FeatureSet(path.parent)
        except ArbenchError:
            continue  # damaged: another may hold the same
        if identity_of(one).digest == digest:
            return Vectors(one.rows(output), one.outputs[output].convention)
    return None
