"""Joins the folders of shards into one run: in any order, again and again, with nothing taken twice or in doubt."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import __version__
from ..errors import InputError, StoreError, counted
from ..files import write_atomic
from ..journal import Record, Writer, now
from ..spec.unit import Unit
from .plan import Plan, PlannedCell
from .replan import difference, key_of, other_code
from .replay import FINAL, CellState, State
from .session import state_of
from .shard import Shard, share_of
from .store import RunFile, Store, new_run_id, running


@dataclass
class Merged:
    """What a merge came to. `missing` is the label of each cell that lacks units, with the number of them."""

    units: int = 0
    results: int = 0
    known: int = 0
    """Units that were in more than one place, with the same content."""
    missing: dict[str, int] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()
    """The shards that `missing` is the share of, as "2/8"; none where the folders are shards of different numbers."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """A folder that is joined, and what its journal says."""

    folder: Path
    store: Store
    state: State


def merge_runs(folders: Sequence[Path], out: Path, argv: tuple[str, ...]) -> tuple[Store, Merged]:
    """The run of `folders` in `out`, which is new or holds what earlier merges of the run have brought.

    The store is held; what is left to do in it is a session's. Raises InputError where the folders are not of one run
    or contradict each other, StoreError where one is being written or the disk refuses.
    """
    parts = [_part(folder) for folder in dict.fromkeys(path.resolve() for path in folders)]
    if any(part.folder == out.resolve() for part in parts):
        raise InputError(f"{out} is one of the shards", "the whole goes to a folder of its own", "name another -o")
    store = Store.resume(out) if (out / "run.json").exists() else None
    try:
        held = [_Part(out, store, state_of(store))] if store else []
        every = [*held, *parts]
        plan = _common_plan(every)
        _refuse_contradictions(every)
        if store is None:
            store = Store.create(out, _whole(parts[0].store.run, plan, argv))
        elif store.run.plan != plan:
            store.replace_run(store.run.model_copy(update={"plan": plan}))
        merged = Merged()
        writer = Writer(store.journal)
        try:
            if not held:
                records: list[Record] = [_record("planned", cells=[planned.cell.result_id for planned in plan.cells])]
                writer.write_all(records)
            here = state_of(store)
            for part in parts:
                writer.write_all(list(_taken(part, store, here, merged)))
        finally:
            writer.close()
        _look_for_gaps(here, plan, [part.store.run.shard for part in parts], merged)
    except BaseException:
        if store is not None:
            store.close()
        raise
    return store, merged


def _part(folder: Path) -> _Part:
    store = Store.read(folder)
    if (holder := running(folder)) is not None:
        raise StoreError(
            f"{folder} is in use",
            f"process {holder} is running it",
            f"wait for it: arbench status {shlex.quote(str(folder))}",
        )
    return _Part(folder, store, state_of(store))


def _common_plan(parts: Sequence[_Part]) -> Plan:
    """The plan of all; a cell measured alone on a machine is planned as where it was measured."""
    first = parts[0]
    plans = [part.store.run.plan for part in parts]
    cells = list(plans[0].cells)
    for part, plan in zip(parts[1:], plans[1:], strict=True):
        theirs = {key_of(planned): planned for planned in plan.cells}
        for planned in plans[0].cells:
            other = theirs.get(key_of(planned))
            same = other is not None and other.cell.result_id == planned.cell.result_id
            alike = other is not None and other.cell.settings_id == planned.cell.settings_id
            mixed = other is not None and not planned.exclusive and other_code(planned, other)
            if mixed or not (same or (alike and planned.exclusive)):  # only its machine may differ
                raise InputError(
                    f"{part.folder} and {first.folder} are not shards of one run",
                    f"{planned.cell.label}: {difference(plans[0], planned, plan, other)}",
                    "run all shards with the same suite, options, weights, data and code",
                )
        if len(theirs) != len(cells):
            raise InputError(
                f"{part.folder} and {first.folder} are not shards of one run",
                f"one has {counted(len(theirs), 'cell')}, the other {len(cells)}",
                "run all shards with the same suite and options",
            )
    for place, planned in enumerate(plans[0].cells):
        if planned.exclusive:
            cells[place] = _where_measured(planned, parts)
    weights = {name: path for plan in reversed(plans) for name, path in plan.weights.items()}
    return plans[0].model_copy(update={"cells": tuple(cells), "weights": weights})


def _where_measured(planned: PlannedCell, parts: Sequence[_Part]) -> PlannedCell:
    for part in parts:
        for state in part.state.values():
            if state.outcome in FINAL and key_of(state.planned) == key_of(planned):
                return state.planned
    return planned


def _refuse_contradictions(parts: Sequence[_Part]) -> None:
    """Raises InputError where two folders have the same unit, or the same measurement, with another content."""
    seen: dict[tuple[str, ...], tuple[str, Path]] = {}
    for part in parts:
        for state in part.state.values():
            found: dict[tuple[str, ...], str] = {(state.id, name): digest for name, digest in state.units.items()}
            if state.planned.exclusive:
                found = {key_of(state.planned): state.digest} if state.outcome in FINAL else {}
            for what, digest in found.items():
                known, folder = seen.setdefault(what, (digest, part.folder))
                if known != digest:
                    unit = "" if state.planned.exclusive else f", unit {what[-1]}"
                    raise InputError(
                        f"{folder} and {part.folder} overlap, and differ where they do",
                        f"{state.planned.cell.label}{unit} is in both with another content",
                        "leave one of them out",
                    )


def _whole(run: RunFile, plan: Plan, argv: tuple[str, ...]) -> RunFile:
    run_id = new_run_id(run.suite.suite, plan)
    changes = {"run_id": run_id, "shard": None, "plan": plan, "argv": argv, "started": now(), "arbench": __version__}
    changes["mirror"] = ""  # that is where the shard is
    return run.model_copy(update=changes)


def _record(kind: str, **fields: object) -> Record:
    return {"kind": kind, "time": now(), **fields}


def _taken(part: _Part, store: Store, here: State, merged: Merged) -> Iterator[Record]:
    """Copies what `part` has and `store` lacks; a record for each, once its file is there."""
    for state in part.state.values():
        mine = here.get(state.id)
        if mine is None:  # an exclusive cell, measured elsewhere
            continue
        if state.units and not mine.started:
            yield _record("started", cell=state.id)
        if state.batch is not None and (mine.batch is None or state.batch < mine.batch):
            mine.batch = state.batch
            yield _record("halved", cell=state.id, batch=state.batch, reason=f"in {part.folder.name}")
        by_name = {unit.name: unit for unit in mine.planned.units}
        for name, digest in state.units.items():
            unit = by_name.get(name)
            if unit is None:
                continue
            if name in mine.units and _holds(store, state.id, unit, digest):
                merged.known += 1
                continue
            data = part.store.read_whole(part.store.unit(state.id, unit), digest)
            if data is None:
                what, where = f"{state.planned.cell.label}: unit {name}", shlex.quote(str(part.folder))
                merged.notes.append(f"{what} is missing or damaged; to compute it again: arbench resume {where}")
                continue
            write_atomic(store.unit(state.id, unit), data)
            mine.units[name] = digest
            merged.units += 1
            # the seconds of all its units are known together; what matters is their sum
            seconds = round(state.seconds / len(state.units), 6)
            samples = 0 if state.planned.exclusive else unit.stop - unit.start
            yield _record("unit", cell=state.id, unit=name, digest=digest, samples=samples, seconds=seconds)
        if state.outcome in FINAL and mine.outcome not in FINAL and _copy_result(part, store, state, merged):
            mine.outcome = state.outcome
            merged.results += 1
            about = {"outcome": state.outcome, "digest": state.digest, "reason": state.reason, "files": state.files}
            yield _record("finished", cell=state.id, **about)


def _holds(store: Store, result_id: str, unit: Unit, digest: str) -> bool:
    return store.read_whole(store.unit(result_id, unit), digest) is not None


def _copy_result(part: _Part, store: Store, state: CellState, merged: Merged) -> bool:
    """Copies a result and what lies beside it, the result last; False where the shard's own is damaged."""
    data = part.store.read_whole(part.store.result(state.id), state.digest)
    try:
        names = part.store.read_result(state.id).artifacts.values() if data is not None else ()
        files = {name: (part.store.cell(state.id) / name).read_bytes() for name in names}
    except (OSError, StoreError):
        data = None
    if data is None:
        merged.notes.append(f"{state.planned.cell.label}: its result in {part.folder} is missing or damaged")
        return False
    for name, content in files.items():
        write_atomic(store.cell(state.id) / name, content)
    write_atomic(store.result(state.id), data)
    return True


def _look_for_gaps(here: State, plan: Plan, shards: Sequence[Shard | None], merged: Merged) -> None:
    gaps = set()
    for state in here.values():
        if state.planned.outcome is None and state.outcome not in FINAL:
            lacking = {(state.id, unit.name) for unit in state.planned.units if unit.name not in state.units}
            if lacking:
                merged.missing[state.planned.cell.label] = len(lacking)
                gaps |= lacking
    totals = {shard.total if shard else 0 for shard in shards}
    if len(totals) == 1 and 0 not in totals:
        total = totals.pop()
        merged.lacking = tuple(
            f"{index}/{total}"
            for index in range(total)
            if any(
                (planned.cell.result_id, unit.name) in gaps
                for planned in share_of(plan, Shard(index=index, total=total)).cells
                for unit in planned.units
            )
        )
