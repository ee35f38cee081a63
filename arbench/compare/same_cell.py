"""Which result of a night is of a cell of the baseline, and whether a model that is gone has another name tonight."""

from __future__ import annotations

from collections.abc import Sequence

from ..report.folders import RunFolder
from ..spec.result import Result
from .baseline import Baseline


def same_cell(known: Result, own: Sequence[Result]) -> Result | None:
    """That of tonight's results of its adapter and task which is of the cell of `known`: by its id, which changes with
    weights, data and parameters; else by its settings, and among those with the same the most alike."""
    load = ("dtype", "init", "compile", "graph")
    alike = [
        each
        for each in own
        if each.result_id == known.result_id
        or (each.sampling == known.sampling and all(each.load.get(name) == known.load.get(name) for name in load))
    ]
    return max(
        alike,
        key=lambda each: (
            each.result_id == known.result_id,
            each.parameters == known.parameters,
            each.load.get("seed") == known.load.get("seed"),
        ),
        default=None,
    )


def renamed(adapter: str, run: RunFolder, baseline: Baseline) -> str:
    """Whether another name of tonight has the weights, or drew the samples, of a model that is not there any more."""
    names = {result.adapter for result in baseline.results}
    weights = {
        digest
        for result in baseline.results
        if result.adapter == adapter and result.provenance
        for name, digest in result.provenance.weights.items()
        if name == adapter
    }
    drawn = {result.samples.digest for result in baseline.results if result.adapter == adapter and result.samples}
    for entry in run.entries:
        result = entry.result
        own = {
            digest
            for name, digest in (result.provenance.weights if result.provenance else {}).items()
            if name == result.adapter
        }
        same = bool(own & weights) or (result.samples is not None and result.samples.digest in drawn - {""})
        if result.adapter not in names and same:
            return f"not in the run, which has {result.adapter} with the same weights or samples: renamed?"
    return "not in the run"
