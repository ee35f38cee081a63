"""Whether a stored run can be resumed: the same cells planned again here must come out with the same identities."""

from __future__ import annotations

import shlex
import shutil

from ..errors import InputError
from ..spec.identity import canonical_json
from .device import Place
from .plan import Plan, PlannedCell, make_plan
from .replay import FINAL, CellState, State
from .store import Store


def replan(store: Store, state: State, place: Place | None = None) -> tuple[Plan, list[str]]:
    """The plan to resume with, and notes on what is different; `place` as for `make_plan`.

    A cell that lacked its weights or its reference and now has them is planned anew, and so is one without units whose
    feature networks' weights have come. Any other cell still to do whose weights, data, versions or machine have
    changed is an error: its result would belong to another run. So is a cell whose units were made by other code of its
    adapter, as long as they are there.
    """
    old = store.run.plan
    todo = [cell.planned for cell in state.values() if cell.outcome not in FINAL]
    if not todo:
        return old, []
    names = list(dict.fromkeys(planned.cell.adapter for planned in todo))
    new = make_plan(
        store.run.suite_file(),
        adapter_globs=names,
        task_names=store.run.task_names,
        device=old.device,
        place=place,
    )
    again = {key_of(planned): planned for planned in new.cells}
    waiting = {planned.cell.result_id for planned in todo}
    notes: list[str] = []
    cells: list[PlannedCell] = []
    for planned in old.cells:
        fresh = again.get(key_of(planned))
        if planned.cell.result_id not in waiting:
            cells.append(planned)
        elif fresh and fresh.cell.result_id == planned.cell.result_id:
            if other_code(planned, fresh):
                _refuse_units(store, planned)
                planned = planned.model_copy(update={"code": fresh.code})
                notes.append(f"{planned.cell.label}: the code of its adapter has changed since it was planned")
            cells.append(planned)
        elif fresh is not None and (
            planned.outcome == "error" or _more_features(planned, fresh, state[planned.cell.result_id])
        ):
            cells.append(fresh)
            shutil.rmtree(store.cell(planned.cell.result_id), ignore_errors=True)  # it only says what was missing
            lacked = "weights are" if fresh.data == planned.data else "reference is"
            notes.append(f"{planned.cell.label}: its {lacked} there now")
        else:
            raise InputError(
                f"this run cannot be resumed: {planned.cell.label} no longer matches its plan",
                difference(old, planned, new, fresh),
                f"put it back, or start a new run: arbench run {store.run.suite_path.removesuffix('.yaml')}",
            )
    return old.model_copy(update={"cells": tuple(cells), "weights": {**old.weights, **new.weights}}), notes


def other_code(planned: PlannedCell, fresh: PlannedCell) -> bool:
    """Whether two plannings know the code of their adapter, and it is not the same."""
    return bool(planned.code and fresh.code) and planned.code != fresh.code


def _refuse_units(store: Store, planned: PlannedCell) -> None:
    """Raises `InputError` if units are there that other code has made."""
    there = sum(store.unit(planned.cell.result_id, unit).is_file() for unit in planned.units)
    if there:
        units = shlex.quote(str(store.cell(planned.cell.result_id) / "units"))
        raise InputError(
            f"this run cannot be resumed: {planned.cell.label} no longer matches its plan",
            f"the code of its adapter has changed since {there} of its {len(planned.units)} units were computed",
            f"put it back, or have them computed again: rm -r {units}; arbench resume {store.resumed_as}",
        )


def _more_features(planned: PlannedCell, fresh: PlannedCell, state: CellState) -> bool:
    """Whether weights of feature networks have come, all else is as it was, and no unit was made without them."""
    before, now = planned.cell, fresh.cell
    alike = before.features_sha256.items() < now.features_sha256.items() and before.settings_id == now.settings_id
    return alike and before.data == now.data and not state.units


def key_of(planned: PlannedCell) -> tuple[str, str, str]:
    """Which cell of a suite it is, whatever its weights, data and machine."""
    cell = planned.cell
    return (
        cell.adapter,
        canonical_json(cell.task.plain()),
        canonical_json(cell.sampling.plain() if cell.sampling else {}),
    )


def difference(old: Plan, planned: PlannedCell, new: Plan, fresh: PlannedCell | None) -> str:
    """In words, why two plannings of a cell have other identities."""
    if fresh is None:
        return _unlike(planned, new) or "the task's data or the adapter have changed"
    if fresh.cell.weights_sha256 != planned.cell.weights_sha256:
        return "its weight files have changed"
    if fresh.cell.features_sha256 != planned.cell.features_sha256:
        return "the weights of its feature networks have changed"
    if fresh.data != planned.data:
        return "its data has changed"
    if other_code(planned, fresh):
        return "the code of its adapter has changed"
    if new.machine != old.machine and planned.exclusive:
        return f"it was planned on {old.machine}, this is {new.machine}"
    return "the adapter or the task has another version now"


def _unlike(planned: PlannedCell, new: Plan) -> str:
    """What the nearest cell of `planned`'s adapter and task has otherwise in `new`; "" where none has this task."""
    task, mine = planned.cell.task.task, _values(planned)
    rivals = [each for each in new.cells if each.cell.adapter == planned.cell.adapter and each.cell.task.task == task]
    unlike = [[name for name in mine | theirs if mine.get(name) != theirs.get(name)] for theirs in map(_values, rivals)]
    if not rivals:
        return f"the other plan has no {task} of {planned.cell.adapter}"
    nearest = min(range(len(rivals)), key=lambda place: len(unlike[place]))
    theirs = _values(rivals[nearest])
    told = [f"{name} is {mine.get(name)} in one plan, {theirs.get(name)} in the other" for name in unlike[nearest]]
    return "; ".join(told)


def _values(planned: PlannedCell) -> dict[str, str]:
    """Of its task and sampling, by dotted name."""
    cell = planned.cell
    sampling = cell.sampling.plain() if cell.sampling else {}
    parts = ((cell.task.task, cell.task.plain()), ("sampling", sampling))
    return {f"{prefix}.{name}": canonical_json(value) for prefix, values in parts for name, value in values.items()}
