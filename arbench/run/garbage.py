"""What may be deleted from a run's folder without losing a result, a sample or time."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import journal as journals
from ..errors import StoreError
from ..files import TEMPORARY
from .replay import FINAL, replay
from .store import Store


@dataclass(frozen=True)
class Garbage:
    """A file or folder that nothing needs, why, and its bytes."""

    path: Path
    why: str
    size: int


def garbage_in(store: Store) -> list[Garbage]:
    """What nothing reads any more. The store must be held: of a run at work, all is in use."""
    if not store.journal.exists():
        raise StoreError(
            f"{store.folder} has no journal",
            "nothing says which units are needed",
            f"arbench verify {shlex.quote(str(store.folder))}",
        )
    records = journals.read(store.journal).records
    state = replay(store.plan.cells, records)
    told = {str(record.get("cell")) for record in records}
    found = [*_partial_files(store.folder)]
    cells = store.folder / "cells"
    for path in sorted(cells.iterdir()) if cells.is_dir() else ():
        if path.name not in state:
            earlier = "a cell as it was planned before its settings, weights, data or versions changed"
            found.append(_garbage(path, earlier if path.name in told else "a cell that is not in the run's plan"))
            continue
        units = path / "units"
        if not units.is_dir():
            continue
        cell = state[path.name]
        planned = {unit.name for unit in cell.planned.units}
        for file in sorted(units.iterdir()):
            if file.match(TEMPORARY) or file.stem in cell.units.keys() & planned:
                continue
            known = file.stem in cell.units
            found.append(_garbage(file, "a unit of an earlier plan" if known else "a unit that no record tells of"))
    cache = store.folder / "cache"
    if cache.is_dir() and all(cell.outcome in FINAL for cell in state.values()):
        found.append(_garbage(cache, "features of references, which only cells to do need"))
    return found


def delete(garbage: Garbage) -> None:
    """Deletes it; a link itself, never what it leads to."""
    if garbage.path.is_dir() and not garbage.path.is_symlink():
        shutil.rmtree(garbage.path)
    else:
        garbage.path.unlink(missing_ok=True)


def _partial_files(folder: Path) -> Iterator[Garbage]:
    for path in sorted(folder.rglob(TEMPORARY)):
        yield _garbage(path, "a partial file of a process that was killed")


def _garbage(path: Path, why: str) -> Garbage:
    if path.is_symlink() or not path.is_dir():
        return Garbage(path, why, path.lstat().st_size)
    return Garbage(path, why, sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir()))
