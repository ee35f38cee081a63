"""A run folder as one record per settings, for programs that are given a whole run at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import artifacts
from ..spec.result import Result
from . import record

Cell = tuple[Result, Path]
"""A result and the folder that it lies in."""


@dataclass
class SettingsRecord:
    """All tasks of one adapter under one settings. metrics: by step, of which a task that is repeated under the same
    settings has several. sheets: task -> its pictures as one PNG.
    """

    adapter: str
    settings_id: str
    name: str
    seconds: float = 0.0
    """Unix time at which the first of its cells began, 0 where that is not known."""
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[dict[str, float]] = field(default_factory=list)
    sheets: dict[str, bytes] = field(default_factory=dict)


def records(run: Mapping[str, Any], cells: Sequence[Cell]) -> list[SettingsRecord]:
    """In the order of the cells. `run`: the content of run.json."""
    swept, found = record.swept(run), dict[tuple[str, str], SettingsRecord]()
    for result, folder in cells:
        key = result.adapter, result.settings_id
        name = f"{result.adapter} {swept.get(result.result_id, '')}".strip()
        own = found.setdefault(key, SettingsRecord(*key, name))
        step = len(record.cells(own.tags, result.task))
        begun = (record.milliseconds(result.started) or 0) / 1000
        own.seconds = min(own.seconds, begun) if own.seconds and begun else own.seconds or begun
        own.params = record.params(result) | own.params
        own.tags |= record.merged_tags(own.tags, result)
        own.metrics += [{} for _ in range(step + 1 - len(own.metrics))]
        own.metrics[step] |= record.metrics(result)
        sheet = artifacts.sheet(result, folder) if result.task not in own.sheets else None
        if sheet is not None:
            own.sheets[result.task] = sheet
    return list(found.values())
