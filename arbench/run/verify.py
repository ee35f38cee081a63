"""What is wrong with the files of a run: its journal line by line, and by their digests every unit and every result."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import journal as journals
from ..errors import StoreError
from ..files import TEMPORARY
from ..journal import Record
from .replay import FINAL, CellState, State, replay
from .store import Store, running


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, or ("note") worth knowing; `next` is a command, or what to do."""

    kind: Literal["error", "note"]
    path: str
    """Below the run's folder."""
    what: str
    next: str = ""


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what was found."""

    records: int
    units: int
    results: int
    findings: tuple[Finding, ...]


def verify_folder(folder: Path) -> Verified:
    """Looks at every file of the run in `folder`, and changes none. Raises InputError if run.json cannot be read."""
    store = Store.read(folder)
    command = f"arbench resume {store.resumed_as}"
    findings: list[Finding] = []
    if (holder := running(folder)) is not None:
        findings.append(Finding("note", "lock", f"process {holder} is running it: what is found may change"))
    if not store.journal.exists():
        lost = Finding(
            "error", "journal.jsonl", "is missing: nothing says which units are whole", f"{command} starts anew"
        )
        return Verified(0, 0, 0, (*findings, lost))
    try:
        read = journals.read(store.journal)
    except StoreError as error:
        return Verified(
            0, 0, 0, (*findings, Finding("error", "journal.jsonl", f"{error.what}: {error.why}", error.hint))
        )
    if read.warning:
        findings.append(Finding("error", "journal.jsonl", read.warning, f"{command} cuts it off"))
    findings += _odd_records(read.records)
    state = replay(store.plan.cells, read.records)
    for cell in state.values():
        findings += _units(store, cell, command)
        findings += _result(store, cell, command)
    findings += _tables(store, state, command)
    if leftovers := sum(1 for _ in folder.rglob(TEMPORARY)):
        what = f"{leftovers} partial files of processes that were killed"
        findings.append(Finding("note", ".", what, f"arbench gc {shlex.quote(str(folder))}"))
    units = sum(len(cell.units) for cell in state.values())
    results = sum(cell.outcome in FINAL for cell in state.values())
    return Verified(len(read.records), units, results, tuple(findings))


def _odd_records(records: Sequence[Record]) -> Iterator[Finding]:
    """Records that are there twice, and times that go back."""
    same = Counter(repr(record) for record in records if record["kind"] in ("unit", "finished"))
    if twice := sum(count - 1 for count in same.values()):
        yield Finding("note", "journal.jsonl", f"{twice} records are there twice; each counts once")
    last = ""
    for number, record in enumerate(records, start=1):
        time = record.get("time")
        if not isinstance(time, str):
            continue
        if last and time < last:
            what = f"line {number}: the clock went back from {last} to {time}; order and durations do not depend on it"
            yield Finding("note", "journal.jsonl", what)
        last = time


def _units(store: Store, cell: CellState, command: str) -> Iterator[Finding]:
    by_name = {unit.name: unit for unit in cell.planned.units}
    for name, digest in cell.units.items():
        unit = by_name.get(name)
        if unit is None:
            yield Finding("note", "journal.jsonl", f"{cell.planned.cell.label}: unit {name} is not in the plan")
            continue
        path = store.unit(cell.id, unit)
        if store.read_whole(path, digest) is None:
            kept = cell.outcome in FINAL
            hint = (
                "its numbers stand; what reads samples does not find these" if kept else f"{command} computes it again"
            )
            yield Finding("error", _below(store, path), _state(path, cell), hint)
    folder = store.cell(cell.id) / "units"
    loose = sum(path.stem not in cell.units for path in folder.glob("*.npz")) if folder.is_dir() else 0
    if loose:
        yield Finding("note", _below(store, folder), f"units in no record: {loose}; {command} computes them again")


def _result(store: Store, cell: CellState, command: str) -> Iterator[Finding]:
    if cell.outcome not in FINAL:
        return
    path, hint = store.result(cell.id), f"{command} makes it again"
    if store.read_whole(path, cell.digest) is None:
        yield Finding("error", _below(store, path), _state(path, cell), hint)
        return
    try:
        artifacts = store.read_result(cell.id).artifacts
    except StoreError as error:
        yield Finding("error", _below(store, path), error.why, hint)
        return
    for name in artifacts.values():
        beside = store.cell(cell.id) / name
        wanted = cell.files.get(name)
        if not beside.is_file() or (wanted is not None and store.read_whole(beside, wanted) is None):
            again = hint if not beside.is_file() else f"delete it; {command} makes it and its result again"
            yield Finding("error", _below(store, beside), _state(beside, cell), again)


def _tables(store: Store, state: State, command: str) -> Iterator[Finding]:
    complete = all(cell.outcome in FINAL for cell in state.values())
    names = ("results.parquet", "table.parquet", "report.html") if complete and store.run.shard is None else ()
    for name in names:
        if not (store.folder / name).is_file():
            yield Finding("error", name, "is missing", f"{command} writes it again")


def _state(path: Path, cell: CellState) -> str:
    word = "is not what was written (other bytes)" if path.is_file() else "is missing"
    return f"{word}, of {cell.planned.cell.label}"


def _below(store: Store, path: Path) -> str:
    return str(path.relative_to(store.folder))
