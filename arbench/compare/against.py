"""Runs held against a baseline, for their report: a baseline that was set, or the folder of any run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import UnknownName
from ..report.changes import Against, CellKey, Changes
from ..report.folders import Entry, RunFolder, read_runs
from ..report.rows import newest
from ..report.series import night
from ..report.tables import Change
from . import baseline as baselines
from . import words
from .comparison import Model, RunComparison, compare_runs
from .difference import Difference
from .page import grid

BUDGET = 500_000
"""Bytes of all pictures of samples that differ most, beside those of the report itself."""
SHOWN = ("better", "worse", "changed", "comparable", "not told apart", "identical")
"""Verdicts that stand in a cell of the main table."""


def against(given: str, store: Path) -> Against:
    """What makes the differences to a baseline, by its name in `store` or by the folder of a run.

    Raises `UnknownName` for what is neither, with the names that there are.
    """
    if given in baselines.names(store):
        old, about = _of_baseline(baselines.read(store, given))
    elif (Path(given) / "run.json").is_file():
        (old,) = read_runs([Path(given)])
        about = f"run {old.run_id}, in {given}"
    else:
        hint = f"arbench baseline set {Path(given).name or 'main'} DIR, or the folder of a run"
        raise UnknownName(f"baseline in {store}", given, baselines.names(store), hint)
    name = given if given in baselines.names(store) else old.path.name
    return lambda runs: _changes(name, about, old, runs)


def _of_baseline(found: baselines.Baseline) -> tuple[RunFolder, str]:
    """Its results as they were accepted; the samples behind them are in the run's folder as long as that is there."""
    accepted = found.file.accepted[-1]
    entries = tuple(
        Entry(result, found.folder / "cells" / result.result_id, accepted.run_id) for result in found.results
    )
    run = RunFolder(found.folder, {"run_id": accepted.run_id}, entries, (), None)
    gone = "" if found.folder.is_dir() else "; its folder is gone, so that nothing is paired by sample"
    return run, f"run {accepted.run_id}, accepted {accepted.time[:10]}: {accepted.reason}{gone}"


def _changes(name: str, about: str, old: RunFolder, runs: Sequence[RunFolder]) -> Changes:
    kept, _ = newest([entry for run in runs for entry in run.entries], lambda entry: entry.result)
    shown = {id(entry) for entry in kept}
    ordered = sorted(runs, key=lambda run: night(run).started)
    found = []
    for run in ordered:
        entries = tuple(entry for entry in run.entries if id(entry) in shown)
        if entries and run.run_id != old.run_id:
            found.append(compare_runs(old, replace(run, entries=entries), (name, run.run_id)))
    grids = sum(len(model.samples) for comparison in found for model in comparison.models)
    return Changes(
        name,
        about,
        {key: change for comparison in found for key, change in _cells(comparison)},
        [_model(comparison, model, BUDGET // max(grids, 1)) for comparison in found for model in comparison.models],
        words.counts(model for comparison in found for model in comparison.models),
        (words.COVERS, words.SESSIONS),
        [f"{each}, {comparison.names[1]}" for comparison in found for each in _alone(comparison)],
    )


def _alone(found: RunComparison) -> list[str]:
    sides = {"in the first": "in the baseline", "in the second": "here"}
    told = []
    for text in found.alone:
        side = next(each for each in sides if text.endswith(each))
        told.append(text.removesuffix(side) + sides[side])
    return told


def _cells(found: RunComparison) -> list[tuple[CellKey, Change]]:
    return [
        ((model.row, each.column.key), _change(each))
        for model in found.models
        for each in model.differences
        if each.verdict in SHOWN
    ]


def _change(each: Difference) -> Change:
    line = words.line(each)
    title = "; ".join(part for part in (f"was {line.old} {line.unit}".rstrip(), line.verdict, line.title) if part)
    return Change("" if each.verdict == "identical" else line.change, line.sign, each.verdict, title)


def _model(found: RunComparison, model: Model, budget: int) -> dict[str, Any]:
    shown = words.shown(model.differences)
    rest = [each for each in model.differences if each not in shown and each.verdict != "not measured"]
    return {
        "name": model.name,
        "run": found.names[1],
        "counts": words.counts([model]),
        "settings": model.settings,
        "failed": model.failed,
        "lines": [(words.line(each), each) for each in shown],
        "details": [(words.line(each), each) for each in rest],
        "missing": words.missing(model.differences),
        "samples": [grid(each, budget) for each in model.samples],
    }
