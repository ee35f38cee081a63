"""Numbers of many nights: which of them are the same number, so that they form a series."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..spec.result import Metric, Result
from .columns import Column, column_of, device, differences
from .folders import Entry, RunFolder, read_runs
from .repeats import entries_together
from .rows import differing_settings, newest


@dataclass(frozen=True)
class Reading:
    """One number of one night."""

    key: str
    entry: Entry
    metric: Metric
    column: Column

    @property
    def words(self) -> str:
        return self.column.words


def key_of(result: Result, metric: Metric, column: Column) -> str:
    """What makes numbers of different nights one series: adapter, settings, machine for timings, column."""
    machine = device(result) if metric.measure != "quality" else ""
    name = column.metric
    parts = [result.adapter, result.settings_id, machine, column.group, list(name), column.unit, column.protocol]
    return json.dumps(parts, default=str)


def readings(entries: Iterable[Entry]) -> dict[str, Reading]:
    """The numbers of one night by key; one with a value before a null."""
    found: dict[str, Reading] = {}
    kept, _ = newest(list(entries), lambda entry: entry.result)
    for entry in entries_together(kept):
        for metric in entry.result.metrics:
            column = column_of(entry.result, metric)
            key = key_of(entry.result, metric, column)
            known = found.get(key)
            if known is None or (known.metric.value is None and metric.value is not None):
                found[key] = Reading(key, entry, metric, column)
    return found


def settings_told(readings: Iterable[Reading]) -> dict[str, str]:
    """Key -> what tells a number from the others of its model and name, if there are any: "guidance 2", "reference
    mnist5k/train"."""
    alike: dict[tuple[str, str], list[Reading]] = {}
    for each in readings:
        alike.setdefault((each.entry.result.adapter, each.words), []).append(each)
    differing = differing_settings(each.entry.result for own in alike.values() for each in own)
    found = {}
    for (adapter, _), own in alike.items():
        several = len({each.entry.result.settings_id for each in own}) > 1
        machines = {device(each.entry.result) for each in own}
        for each in own:
            result = each.entry.result
            parts = [differing[adapter, result.settings_id]] if several else []
            parts += [f"{name} {value}" for name, value in differences(each.column, [it.column for it in own]).items()]
            if len(machines) > 1 and each.metric.measure != "quality":
                parts.append(device(result))
            found[each.key] = ", ".join(part for part in parts if part)
    return found


@dataclass(frozen=True)
class Night:
    """All numbers of one run: its id, when it was made, and from which commit."""

    run_id: str
    started: str
    git: str
    folder: Path
    readings: dict[str, Reading]


def night(run: RunFolder) -> Night:
    results = [entry.result for entry in run.entries]
    started = min((result.started for result in results if result.started), default="")
    git = next((result.provenance.git for result in results if result.provenance and result.provenance.git), "")
    return Night(run.run_id, str(run.run.get("started", "")) or started, git, run.path, readings(run.entries))


def nights(folders: Sequence[Path]) -> list[Night]:
    """Oldest first. Raises `InputError` for a folder that is none."""
    return sorted((night(run) for run in read_runs(folders)), key=lambda each: (each.started, each.run_id))


def runs_in(folders: Sequence[Path]) -> list[Path]:
    """Folders of runs: those given, and those in a folder that is none itself. Raises `InputError` where none is."""
    found: list[Path] = []
    for folder in folders:
        inside = sorted(path.parent for path in folder.glob("*/run.json"))
        if (folder / "run.json").is_file() or not inside:
            found.append(folder)
        else:
            found += inside
    if not found:
        raise InputError("no folder of runs given", "", "arbench history runs")
    return found
