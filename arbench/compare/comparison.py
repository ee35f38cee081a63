"""Two folders compared: models side by side, the differences of all their numbers, the samples that differ most."""

from __future__ import annotations

import heapq
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..metrics.differences import Contrast
from ..report.folders import RunFolder, read_runs
from ..report.rows import RowKey
from . import screen
from .difference import Difference, Differences, judged, tolerances
from .in_turn import Number
from .matching import Pair, Setting, numbers_of, pairs_of, settings_of
from .samples import References, Samples

SHOWN = 12
"""Samples in the grid of those that differ most."""


Turns = Callable[[Pair], Mapping[Number, tuple[Sequence[float], Sequence[float]]]]
"""Of a pair: number -> readings of the old and of the new side, measured in turn."""
WORK, TIMED = ("steps", "forwards"), ("latency", "images-per-second")


@dataclass(frozen=True)
class Changed:
    """A sample of both: (3, H, W) images, and the root mean square of their difference in grey levels."""

    id: str
    label: int
    old: NDArray[np.uint8]
    new: NDArray[np.uint8]
    distance: float


@dataclass(frozen=True)
class ChangedSamples:
    """Of one task: the samples that differ most, of `count` whose images both have, `same` of which are equal."""

    task: str
    most: tuple[Changed, ...]
    count: int
    same: int
    median: float


@dataclass(frozen=True)
class Model:
    """What was found about one model, or about two that stand for each other."""

    name: str
    settings: tuple[Setting, ...]
    differences: tuple[Difference, ...]
    samples: tuple[ChangedSamples, ...]
    failed: tuple[str, ...]
    """Tasks that did not go well on a side, in words."""
    row: RowKey
    """Of the new side."""


@dataclass(frozen=True)
class RunComparison:
    """`names` and folders of the old and the new side. `alone`: rows of one side only."""

    names: tuple[str, str]
    folders: tuple[Path, Path]
    models: tuple[Model, ...]
    alone: tuple[str, ...]

    @property
    def differences(self) -> tuple[Difference, ...]:
        return tuple(each for model in self.models for each in model.differences)

    def worse(self, globs: Sequence[str]) -> list[Difference]:
        """The regressions among the numbers named: see `Difference.named`."""
        return [each for each in self.differences if each.verdict == "worse" and each.named(globs)]

    def compared(self, globs: Sequence[str]) -> bool:
        """Whether any of the numbers named was compared at all."""
        left_out = ("not measured", "not comparable")
        return any(each.verdict not in left_out and each.named(globs) for each in self.differences)

    def plain(self) -> dict[str, Any]:
        """As JSON: one object per number."""
        return {
            "schema_version": 1,
            "old": {"name": self.names[0], "folder": str(self.folders[0])},
            "new": {"name": self.names[1], "folder": str(self.folders[1])},
            "models": [_plain_model(model) for model in self.models],
            "alone": list(self.alone),
        }


def compare_folders(
    old: Path,
    new: Path,
    names: tuple[str, str] | None = None,
    tolerance: Sequence[str] = (),
    images: bool = True,
    turns: Turns | None = None,
) -> RunComparison:
    """The comparison of two folders of runs or scores. Raises `InputError` for a folder that is none.

    `tolerance`: see `arbench.compare.difference.tolerances`. `images`: look for the samples that differ most. `turns`:
    measures timings and memory of both again, in turn.
    """
    first, second = (read_runs([folder])[0] for folder in (old, new))
    for folder, run in ((old, first), (new, second)):
        if not run.entries:
            word = shlex.quote(str(folder))
            raise UsageError(
                f"{folder} has no results",
                f"{len(run.missing)} of its cells are to do" if run.missing else "nothing was measured",
                f"arbench resume {word}" if run.missing else f"arbench report {word}",
            )
    found = compare_runs(first, second, names or _names(first, second), tolerance, images, turns)
    if not found.models:
        raise UsageError(
            f"{old} and {new} have no model in common",
            "; ".join(found.alone) or "they have no results",
            f"arbench report {shlex.quote(str(old))} {shlex.quote(str(new))} -o both.html shows what each has",
        )
    return replace(found, folders=(old, new))


def compare_runs(
    old: RunFolder,
    new: RunFolder,
    names: tuple[str, str],
    tolerance: Sequence[str] = (),
    images: bool = True,
    turns: Turns | None = None,
) -> RunComparison:
    """As `compare_folders`, of runs that were read; without models where they have none in common."""
    declared = tolerances(tolerance)
    pairs, alone = pairs_of(old, new)
    make = Differences(References([old.path, new.path]), declared)
    models = tuple(_model(pair, make, images, turns) for pair in pairs)
    return RunComparison(names, (old.path, new.path), models, tuple(alone))


def _names(old: RunFolder, new: RunFolder) -> tuple[str, str]:
    return (old.path.name, new.path.name) if old.path.name != new.path.name else ("old", "new")


def _model(pair: Pair, make: Differences, images: bool, turns: Turns | None) -> Model:
    differences = [make.of(pair.name, numbers) for numbers in numbers_of(pair)]
    found = _with_work(_in_turn(differences, turns(pair)) if turns is not None else differences)
    changed = []
    for one in pair.old if images else ():
        two = next((each for each in pair.new if _alike(one.result, each.result)), None)
        shown = changed_samples(one.result.task, make.samples(one), make.samples(two)) if two is not None else None
        if shown is not None:
            changed.append(shown)
    failed = tuple(
        f"{side}: {entry.result.task}: {entry.result.outcome}: {entry.result.reason}"
        for side, entries in (("old", pair.old), ("new", pair.new))
        for entry in entries
        if entry.result.outcome != "ok"
    )
    return Model(pair.name, tuple(settings_of(pair)), found, tuple(changed), failed, pair.row)


def _with_work(found: Sequence[Difference]) -> tuple[Difference, ...]:
    """Beside each timing of whole calls how the number of steps and of forwards has changed."""
    work = [
        f"{each.column.name} x {each.new.value / each.old.value:.3g}"
        for each in found
        if each.column.name in WORK and each.old and each.new and each.old.value and each.new.value
    ]
    return tuple(replace(each, beside=", ".join(work)) if each.column.name in TIMED else each for each in found)


def _in_turn(
    found: Sequence[Difference], readings: Mapping[Number, tuple[Sequence[float], Sequence[float]]]
) -> list[Difference]:
    """With the ratios of builds that ran in turn in place of those of two sessions."""
    made = []
    for each in found:
        pair = readings.get((each.column.task, each.column.words, ""))
        if pair is None or not each.ratio or min([*pair[0], *pair[1]]) <= 0:
            made.append(each)
            continue
        ratio = screen.confirmed(*pair)
        method = f"t of log ratios, {len(pair[0])} rounds in turn"
        change = Contrast(float(ratio.ratio), float(ratio.low), float(ratio.high), method)
        verdict, why = judged(each.column, 1.0, change, each.tolerance, ratio=True)
        made.append(replace(each, change=change, verdict=verdict, why=why, turns=len(pair[0])))
    return made


def _alike(one: Any, two: Any) -> bool:
    return bool(one.task == two.task and one.parameters == two.parameters)


def changed_samples(task: str, old: Samples, new: Samples) -> ChangedSamples | None:
    """Those that differ most in their pixels; None unless images of the same ids were kept on both sides."""
    heap: list[tuple[float, int, Changed]] = []
    distances: list[float] = []
    for place, (one, two) in enumerate(_together(old, new)):
        if one[2].shape != two[2].shape:
            return None
        apart = one[2].astype(np.float64) - two[2]
        distance = float(np.sqrt(np.mean(apart * apart)))
        distances.append(distance)
        item = (distance, -place, Changed(one[0], one[1], one[2], two[2], distance))
        if len(heap) < SHOWN:
            heapq.heappush(heap, item)
        elif item[:2] > heap[0][:2]:
            heapq.heapreplace(heap, item)
    if not distances:
        return None
    most = tuple(each for distance, _, each in sorted(heap, key=lambda item: (-item[0], -item[1])) if distance > 0)
    return ChangedSamples(task, most, len(distances), distances.count(0.0), float(np.median(distances)))


Image = tuple[str, int, NDArray[np.uint8]]


def _together(old: Samples, new: Samples) -> Iterable[tuple[Image, Image]]:
    """Images of one id, as far as both sides go on with the same ones."""
    for one, two in zip(old.images(), new.images(), strict=False):
        if one[0] != two[0]:
            return
        yield one, two


def _plain_model(model: Model) -> dict[str, Any]:
    return {
        "model": model.name,
        "settings": [{"name": each.name, "old": each.old, "new": each.new} for each in model.settings],
        "failed": list(model.failed),
        "differences": [plain_difference(each) for each in model.differences],
        "samples": [
            {
                "task": each.task,
                "compared": each.count,
                "equal": each.same,
                "median_rms": each.median,
                "most": [{"id": one.id, "rms": one.distance} for one in each.most],
            }
            for each in model.samples
        ],
    }


def plain_difference(each: Difference) -> dict[str, Any]:
    """One number of both sides as JSON."""
    change = each.change
    return {
        "metric": each.column.name,
        "convention": each.column.convention,
        "at": dict(each.column.metric.at),
        "measure": each.column.measure,
        "direction": each.column.direction,
        "unit": each.column.unit,
        "old": each.old.value if each.old else None,
        "new": each.new.value if each.new else None,
        "kind": "ratio" if each.ratio else "difference",
        "change": change.value if change else None,
        "low": change.low if change else None,
        "high": change.high if change else None,
        "method": change.method if change else "",
        "paired": each.paired,
        "shorter": each.shorter,
        "tolerance": each.tolerance.words if each.tolerance else None,
        "verdict": each.verdict,
        "why": each.why,
    }
