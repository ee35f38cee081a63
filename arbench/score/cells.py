"""Cells of a run as samples: the units that it has stored, with features that are there and images that were kept."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .. import journal
from ..data.stream import Picture, Tally
from ..errors import DamagedFile, InputError, UnknownName, counted
from ..features.feature_set import digest_of
from ..features.unit_features import UNIT, UnitFile
from ..files import state_of
from ..json_text import parse_json
from ..remote.address import info, is_address, open_place
from ..remote.cached import fetch
from ..spec.cell import Cell
from ..spec.result import Result
from ..spec.unit import Unit


@dataclass(frozen=True)
class SampledCell:
    """One cell of a run whose units hold samples."""

    run: Path
    cell: Cell
    units: tuple[UnitFile, ...]
    result: Result | None
    """As the run wrote it; None if it has not finished."""

    @property
    def name(self) -> str:
        """As a source: "runs/DIR:res-..."."""
        return f"{self.run}:{self.cell.result_id}"

    @property
    def label(self) -> str:
        return self.cell.label

    @cached_property
    def mark(self) -> str:
        """Changes when a unit does: of names and states."""
        facts = [(unit.path.name, state_of(unit.path)) for unit in self.units]
        return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()

    @property
    def images_kept(self) -> int:
        """How many of the samples, from the first on, still have their images."""
        return sum(unit.shape("sample_ids")[0] for unit in self.units if "images" in unit)

    @property
    def count(self) -> int:
        return sum(unit.shape("sample_ids")[0] for unit in self.units)


class CellStream:
    """The images of a cell, in order of sample id. Raises `InputError` at the first unit whose images were not kept."""

    def __init__(self, cell: SampledCell, shard: tuple[int, int] = (0, 1), limit: int | None = None) -> None:
        self.name = cell.name
        self.tally = Tally()
        self._cell, self._shard, self._limit = cell, shard, limit
        total = cell.count if limit is None else min(limit, cell.count)
        self.count: int | None = len(range(shard[0], total, shard[1]))

    def __iter__(self) -> Iterator[Picture]:
        self.tally = Tally()
        for unit in self._cell.units:
            if "images" not in unit:
                raise images_missing(self._cell)
            ids, labels, _, keys, _ = (unit[name].tolist() for name in UNIT)
            for sample_id, label, key, image in zip(ids, labels, keys, unit["images"], strict=True):
                if self._limit is not None and sample_id >= self._limit:
                    return
                if sample_id % self._shard[1] == self._shard[0]:
                    self.tally.read += 1
                    yield Picture(sample_id, key, image, label if label >= 0 else None)


def images_missing(cell: SampledCell) -> InputError:
    return InputError(
        f"{cell.label} kept the images of {cell.images_kept} of its {counted(cell.count, 'sample')}",
        "and this needs the pixels of all of them",
        "arbench run SUITE --keep-images keeps all; settings.keep_images states the size that each cell keeps",
    )


def is_run(source: Any) -> bool:
    """Whether a source is the folder of a run, perhaps with a cell: "runs/DIR" or "runs/DIR:CELL"."""
    return isinstance(source, str) and _split(source) is not None


def _split(source: str) -> tuple[Path, str] | None:
    """The folder of a run and what is named in it, or None."""
    source, cell = _of_address(source)
    folder, _, name = source.partition(":")
    for path, wanted in ((Path(source), cell), (Path(folder), name)):
        if _has_plan(path):
            return path, wanted
        if path.parent.name == "cells" and _has_plan(path.parent.parent):  # the folder of a cell
            return path.parent.parent, path.name
    return None


def _of_address(source: str) -> tuple[str, str]:
    """The copy of a run at an address, and what is named in it; any other source as it is."""
    address, _, name = source.rpartition(":")
    for text, wanted in ((source, ""), (address, name)):
        if is_address(text):
            with contextlib.suppress(InputError):
                info(open_place(text) / "run.json")
                return str(fetch(text)), wanted
    return source, ""


def _has_plan(folder: Path) -> bool:
    try:
        value = parse_json((folder / "run.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and isinstance(value.get("plan"), dict)


def cells_of(source: str) -> list[SampledCell]:
    """The cells with samples that a source names: all of the run's, or those of a result id, an adapter or a glob.

    Raises `InputError` where none has finished its units, `UnknownName` for a name that no cell has, `DamagedFile` for
    a unit that is not what the run wrote.
    """
    found = _split(source)
    assert found is not None  # asked only of what `is_run`
    folder, wanted = found
    cells = _read(folder)
    if wanted:
        chosen = [each for each in cells if _named(each, wanted)]
        if not chosen:
            names = [name for each in cells for name in (each.cell.result_id, each.cell.adapter)]
            raise UnknownName(f"cell with samples in {folder}", wanted, names, f"arbench status {folder}")
        return _whole(folder, chosen)
    if not cells:
        raise InputError(
            f"no cell of {folder} has all its samples",
            "its cells are not finished, or make none",
            f"arbench status {folder}",
        )
    return _whole(folder, cells)


def _whole(folder: Path, cells: list[SampledCell]) -> list[SampledCell]:
    """`cells`, if their units and results have the digests that the run's journal tells; one without a record is let
    be.
    """
    path = folder / "journal.jsonl"
    records = journal.read(path).records if path.is_file() else ()
    written = {(each["cell"], each["unit"]): each["digest"] for each in records if each["kind"] == "unit"}
    results = journal.results_written(records)
    for cell in cells:
        name = cell.cell.result_id
        known = {unit.path: written.get((name, unit.path.stem)) for unit in cell.units}
        if cell.result is not None:
            known[folder / "cells" / name / "result.json"] = results.get(name)
        for file, wanted in known.items():
            if wanted is not None and digest_of(file) != wanted:
                run = shlex.quote(str(folder))
                raise DamagedFile(
                    f"{file} is not what the run wrote",
                    f"it has other bytes than its record in {path.name}",
                    f"arbench verify {run}; without the cell's result.json, arbench resume {run} computes it again",
                )
    return cells


def _named(each: SampledCell, wanted: str) -> bool:
    names = (each.cell.result_id, each.cell.adapter, f"{each.cell.task.task} {each.cell.adapter}", each.cell.task.task)
    return any(fnmatch.fnmatchcase(name, wanted) for name in names)


def _read(folder: Path) -> list[SampledCell]:
    """Cells whose units are all there and hold samples."""
    try:
        plan = parse_json((folder / "run.json").read_bytes())["plan"]["cells"]
        planned = [
            (Cell.model_validate(each["cell"]), [Unit.model_validate(unit) for unit in each["units"]]) for each in plan
        ]
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise DamagedFile(f"cannot read {folder / 'run.json'}", f"{type(error).__name__}: {error}", "") from error
    found = []
    for cell, cuts in planned:
        here = folder / "cells" / cell.result_id
        units = tuple(UnitFile(here / "units" / f"{unit.name}.npz") for unit in cuts)
        if units and all(unit.path.is_file() for unit in units) and all(name in units[0] for name in UNIT):
            result = None
            if (here / "result.json").is_file():
                result = Result.model_validate_json((here / "result.json").read_bytes())
            found.append(SampledCell(folder, cell, units, result))
    return found
