"""Reads what a report is made of: run.json, result.json and the small files beside it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .. import artifacts
from ..artifacts import REDO
from ..errors import DamagedFile, InputError
from ..files import digest
from ..gallery import Gallery
from ..journal import Record, results_written
from ..json_text import parse_json, writable
from ..spec.problem import said
from ..spec.result import SCHEMA_VERSION, Result
from ..spec.schema1 import upgraded

ANEW = "leave this folder out: it cannot be resumed without its plan; arbench run SUITE or arbench score makes another"


@dataclass(frozen=True)
class Entry:
    """One result and the folder that it lies in."""

    result: Result
    folder: Path
    run_id: str

    def gallery(self, what: artifacts.Pictures) -> Gallery | None:
        """Its pictures, or those that came out worst, if it has some. Raises `StoreError` for a damaged file."""
        return artifacts.pictures(self.result, self.folder, what)

    def latency(self) -> artifacts.Arrays | None:
        """Its raw timings, None if it has none. Raises `StoreError` for a damaged file."""
        return artifacts.latency(self.result, self.folder)


@dataclass(frozen=True)
class Planned:
    """A cell of the plan that has no result."""

    adapter: str
    task: str
    result_id: str
    setting: str = ""
    """What tells it from the other cells of its adapter and task in the plan."""


@dataclass(frozen=True)
class RunFolder:
    """A run or a score: its run.json, its results in the order of the plan (a score has none), and what is to do."""

    path: Path
    run: dict[str, Any]
    entries: tuple[Entry, ...]
    missing: tuple[Planned, ...]
    seconds: float | None
    """Wall-clock time of all sessions together, None without a journal or a plan."""
    digests: Mapping[str, str] | None = None
    """Result id -> digest of its result.json when the journal saw it written, None without a journal."""

    @property
    def run_id(self) -> str:
        return str(self.run.get("run_id", writable(self.path.name)))

    @property
    def planned(self) -> bool:
        """Whether a run has written it, not a score: only that can be resumed."""
        return bool(self.run.get("plan") or self.run.get("cells"))

    @property
    def suite(self) -> dict[str, Any]:
        suite = self.run.get("suite")
        return suite if isinstance(suite, dict) else {}


def read_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """The runs in `folders`; `InputError` for a folder that is not there, `DamagedFile` for one that is damaged, or
    that has a result which was changed after it was written.
    """
    if not folders:
        raise InputError("no run folder given", "", "arbench report runs/NAME")
    runs = [read_run(folder) for folder in dict.fromkeys(folder.resolve() for folder in folders)]
    for run in runs:
        for entry in changed(run):
            raise DamagedFile(
                f"{entry.folder / 'result.json'} was changed after it was written",
                "its digest is not the one in the journal",
                how_to_write_again(run),
            )
    return runs


def how_to_write_again(run: RunFolder) -> str:
    """The next command where a result of this folder was changed."""
    if not run.planned:
        return "score the samples again"
    return f"arbench resume {shlex.quote(str(run.path))} writes it again"


def changed(run: RunFolder) -> Iterator[Entry]:
    """The results that are not those which the journal saw written."""
    for entry in run.entries:
        wanted = (run.digests or {}).get(entry.result.result_id)
        if wanted and digest((entry.folder / "result.json").read_bytes()) != wanted:
            yield entry


def read_run(folder: Path) -> RunFolder:
    """One run, whether or not its results were changed; errors else as of `read_runs`."""
    if not folder.is_dir():
        what = f"{folder} is not a folder" if folder.exists() else f"no folder {folder}"
        raise InputError(what, "", "arbench ls runs")
    if not (folder / "run.json").is_file():
        raise InputError(f"{folder} is not the folder of a run", "it has no run.json", "arbench ls runs")
    run = _object(folder / "run.json", ANEW)
    plan = [_planned(cell, folder) for cell in run.get("cells") or (run.get("plan") or {}).get("cells") or ()]
    run_id = str(run.get("run_id", writable(folder.name)))
    order = {cell.result_id: index for index, cell in enumerate(plan)}
    files = sorted(folder.glob("cells/*/result.json"), key=lambda f: (order.get(f.parent.name, len(order)), f.parent))
    entries = tuple(Entry(_result(file), file.parent, run_id) for file in files)
    done = {entry.result.result_id for entry in entries}
    missing = tuple(cell for cell in plan if cell.result_id not in done)
    records = _records(folder / "journal.jsonl")
    seconds = _session_seconds(records or []) if plan else None  # a score's journal has no begin and end
    return RunFolder(folder, run, entries, missing, seconds, None if records is None else results_written(records))


def _object(path: Path, hint: str = REDO) -> dict[str, Any]:
    try:
        value = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedFile(f"cannot read {path}", f"the file is damaged: {error}", hint) from error
    if not isinstance(value, dict):
        raise DamagedFile(f"cannot read {path}", "it is not a JSON object", hint)
    version = value.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise DamagedFile(
            f"{path} was written by a newer arbench",
            f"its schema is {version}, this version reads up to {SCHEMA_VERSION}",
            "pip install --upgrade arbench",
        )
    return value


def _result(path: Path) -> Result:
    value = upgraded(_object(path))
    try:
        return Result.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DamagedFile(f"cannot read {path}", f"{place}: {said(first)}", REDO) from error


def _planned(cell: Any, folder: Path) -> Planned:
    """A cell of run.json, bare or wrapped with its plan's estimates."""
    try:
        inner = cell.get("cell", cell)
        setting = ", ".join(str(inner[name]) for name in ("swept", "distinction") if inner.get(name))
        return Planned(str(inner["adapter"]), str(inner["task"]["task"]), str(inner["result_id"]), setting)
    except (AttributeError, KeyError, TypeError) as error:
        raise DamagedFile(f"cannot read {folder / 'run.json'}", f"a cell of its plan lacks {error}") from error


def _session_seconds(records: Sequence[Record]) -> float | None:
    """Time between the first and last record of each session, summed, so that a pause before a resume is not in it."""
    total, first, last = 0.0, None, None
    for record in records:
        try:
            time = datetime.fromisoformat(record["time"])
        except (ValueError, KeyError, TypeError):
            continue  # the duration is for reading only
        if record["kind"] == "session" and first is not None and last is not None:
            total, first = total + (last - first).total_seconds(), time
        first, last = first or time, time
    if first is None or last is None:
        return None
    return total + (last - first).total_seconds()


def _records(journal: Path) -> list[Record] | None:
    """The lines that can be read, None without a journal. A damaged one is for `arbench verify` to tell."""
    if not journal.is_file():
        return None
    found = []
    for line in journal.read_bytes().splitlines():
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("kind"), str):
            found.append(record)
    return found
