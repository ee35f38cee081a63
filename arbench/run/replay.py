"""How far a run is: its journal replayed, and what lies on disk checked against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import StoreError
from ..journal import Record
from ..spec.result import Outcome, Result
from .plan import PlannedCell
from .store import Store

FINAL: frozenset[Outcome] = frozenset({"ok", "unsupported"})
"""Outcomes that a resumed run keeps; the others are tried again."""


@dataclass
class CellState:
    """What the journal says of one cell. `result` is set once there is one that stands."""

    planned: PlannedCell
    units: dict[str, str] = field(default_factory=dict)
    """Name of a finished unit -> digest of its file."""
    seconds: float = 0.0
    """Time spent in the finished units."""
    started: str = ""
    outcome: Outcome | None = None
    digest: str = ""
    reason: str = ""
    batch: int | None = None
    """With which it continues, once memory has run out at a larger one."""
    files: dict[str, str] = field(default_factory=dict)
    """Name of a file beside the result -> its digest; none of an earlier version's."""
    tracked: str = ""
    """The store of MLflow that has its result: "own" for the run's own database."""
    result: Result | None = None

    @property
    def id(self) -> str:
        return self.planned.cell.result_id

    @property
    def done(self) -> bool:
        """Whether nothing is left to do here: it has its result, or, in a shard, all units of its share."""
        return self.result is not None or (self.planned.partial and len(self.units) == len(self.planned.units))


State = dict[str, CellState]


def replay(cells: Iterable[PlannedCell], records: Iterable[Record]) -> State:
    """The state of every planned cell, in plan order. Records of cells that are not planned are passed over."""
    state = {planned.cell.result_id: CellState(planned) for planned in cells}
    seconds: dict[tuple[str, str], float] = {}
    """Of each unit, the last time that it was computed: a record that is there twice counts once."""
    for record in records:
        if record["kind"] == "tracked":
            for name in record["cells"]:
                if isinstance(name, str) and name in state:
                    state[name].tracked = record.get("store", "?")  # version 0.1 did not say
            continue
        cell = state.get(str(record.get("cell", "")))
        if cell is None:
            continue
        if record["kind"] == "started":
            cell.started = cell.started or record["time"]
            cell.outcome, cell.reason = None, ""  # if it had one, it is being tried again
        elif record["kind"] == "halved":
            cell.batch = record["batch"]
        elif record["kind"] == "unit":
            cell.units[record["unit"]] = record["digest"]
            cell.seconds += record["seconds"] - seconds.get((cell.id, record["unit"]), 0.0)
            seconds[cell.id, record["unit"]] = record["seconds"]
        elif record["kind"] == "finished":
            cell.outcome, cell.digest, cell.reason = record["outcome"], record["digest"], record["reason"]
            files = record.get("files")
            cell.files = files if isinstance(files, dict) else {}
            cell.tracked = ""
    return state


def verify(store: Store, state: State) -> list[str]:
    """Loads the results that stand and drops what is missing or damaged on disk; returns a note for each."""
    notes: list[str] = []
    for cell in state.values():
        if cell.outcome in FINAL:
            cell.result = _result(store, cell)
            if cell.result is not None:
                continue
            notes.append(f"{cell.planned.cell.label}: its result is missing or damaged and is made again")
        cell.outcome, cell.tracked = None, ""
        by_name = {unit.name: unit for unit in cell.planned.units}
        for name, digest in list(cell.units.items()):
            unit = by_name.get(name)
            if unit is None:
                del cell.units[name]
            elif store.read_whole(store.unit(cell.id, unit), digest) is None:
                del cell.units[name]
                notes.append(f"{cell.planned.cell.label}: unit {name} is missing or damaged and is computed again")
    return notes


def _result(store: Store, cell: CellState) -> Result | None:
    if store.read_whole(store.result(cell.id), cell.digest) is None:
        return None
    try:
        result = store.read_result(cell.id)
    except StoreError:
        return None
    here = store.cell(cell.id)
    return result if all((here / name).is_file() for name in result.artifacts.values()) else None
