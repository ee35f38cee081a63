"""Reads what a report is made of: run.json, result.json and the small arrays beside it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ..errors import InputError, StoreError
from ..images import unpack
from ..spec.result import SCHEMA_VERSION, Result

REDO = "arbench resume DIR writes it again"


@dataclass(frozen=True)
class Entry:
    """One result and the folder that it lies in."""

    result: Result
    folder: Path
    run_id: str

    def arrays(self, file: str) -> dict[str, NDArray[Any]] | None:
        """The npz artifact `file`, None if the cell has none of that name."""
        if file not in self.result.artifacts.values():
            return None
        path = self.folder / file
        try:
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise StoreError(f"{path} lies outside its cell", "an artifact is a file beside result.json", REDO)
            return unpack(path.read_bytes())
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise StoreError(f"cannot read {path}", f"{type(error).__name__}: {error}", REDO) from error


@dataclass(frozen=True)
class Planned:
    """A cell of the plan that has no result."""

    adapter: str
    task: str
    result_id: str


@dataclass(frozen=True)
class RunFolder:
    """A run: its run.json, its results in the order of the plan, and what is still to do."""

    path: Path
    run: dict[str, Any]
    entries: tuple[Entry, ...]
    missing: tuple[Planned, ...]
    seconds: float | None
    """Wall-clock time of all sessions together, None without a journal."""

    @property
    def run_id(self) -> str:
        return str(self.run.get("run_id", self.path.name))

    @property
    def suite(self) -> dict[str, Any]:
        suite = self.run.get("suite")
        return suite if isinstance(suite, dict) else {}


def read_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """The runs in `folders`; `InputError` for a folder that is not there, `StoreError` for one that is damaged."""
    if not folders:
        raise InputError("no run folder given", "", "arbench report runs/NAME")
    return [_read_run(folder) for folder in dict.fromkeys(folder.resolve() for folder in folders)]


def _read_run(folder: Path) -> RunFolder:
    if not folder.is_dir():
        raise InputError(f"no folder {folder}", "", "arbench ls runs")
    if not (folder / "run.json").is_file():
        raise StoreError(f"{folder} is not the folder of a run", "it has no run.json", "arbench ls runs")
    run = _object(folder / "run.json")
    plan = [_planned(cell, folder) for cell in run.get("cells") or (run.get("plan") or {}).get("cells") or ()]
    run_id = str(run.get("run_id", folder.name))
    order = {cell.result_id: index for index, cell in enumerate(plan)}
    files = sorted(folder.glob("cells/*/result.json"), key=lambda f: (order.get(f.parent.name, len(order)), f.parent))
    entries = tuple(Entry(_result(file), file.parent, run_id) for file in files)
    done = {entry.result.result_id for entry in entries}
    missing = tuple(cell for cell in plan if cell.result_id not in done)
    return RunFolder(folder, run, entries, missing, _session_seconds(folder / "journal.jsonl"))


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}", f"the file is damaged: {error}", REDO) from error
    if not isinstance(value, dict):
        raise StoreError(f"cannot read {path}", "it is not a JSON object", REDO)
    version = value.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer arbench",
            f"its schema is {version}, this version reads up to {SCHEMA_VERSION}",
            "pip install --upgrade arbench",
        )
    return value


def _result(path: Path) -> Result:
    value = _object(path)
    try:
        return Result.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"cannot read {path}", f"{place}: {first['msg']}", REDO) from error


def _planned(cell: Any, folder: Path) -> Planned:
    """A cell of run.json, bare or wrapped with its plan's estimates."""
    try:
        inner = cell.get("cell", cell)
        return Planned(str(inner["adapter"]), str(inner["task"]["task"]), str(inner["result_id"]))
    except (AttributeError, KeyError, TypeError) as error:
        raise StoreError(f"cannot read {folder / 'run.json'}", f"a cell of its plan lacks {error}") from error


def _session_seconds(journal: Path) -> float | None:
    """Time between the first and last record of each session, summed, so that a pause before a resume is not in it."""
    total, first, last = 0.0, None, None
    for kind, time in _records(journal):
        if kind == "session" and first is not None and last is not None:
            total, first = total + (last - first).total_seconds(), time
        first, last = first or time, time
    if first is None or last is None:
        return None
    return total + (last - first).total_seconds()


def _records(journal: Path) -> Iterator[tuple[str, datetime]]:
    if not journal.is_file():
        return
    for line in journal.read_bytes().splitlines():
        try:
            record = json.loads(line)
            yield str(record["kind"]), datetime.fromisoformat(record["time"])
        except (ValueError, KeyError, TypeError):
            continue  # a torn line, or one without a time: the duration is for reading only


def images(arrays: dict[str, NDArray[Any]], name: str, where: Path) -> NDArray[np.uint8]:
    """The uint8 (k, 3, H, W) array `name`, checked."""
    array = arrays.get(name)
    if array is None or array.ndim != 4 or array.shape[1] != 3 or array.dtype != np.uint8:
        found = "nothing" if array is None else f"{array.dtype} {array.shape}"
        raise StoreError(
            f"cannot use the images in {where}", f"{name}: uint8 (k, 3, H, W) expected, {found} found", REDO
        )
    return array
