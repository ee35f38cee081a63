"""A cell: one adapter through one task under one resolved setting, the unit of planning and of results."""

from __future__ import annotations

from typing import Any, Literal

from .base import Frozen
from .card import Card, Family
from .identity import identity
from .sampling import Sampling
from .suite import Settings, TaskSpec

TRANSPORT = frozenset({"batch", "show", "min_calls", "min_seconds", "max_seconds"})
"""Task parameters that do not change a result's value (noise is per sample); not part of its identity."""


class Unit(Frozen):
    """A range of sample ids (or image indices) with fixed boundaries: computed, stored and resumed as one."""

    index: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.start:06d}-{self.stop:06d}"


class Cell(Frozen):
    """`settings_id` names what speed and quality must share; `result_id` adds task, data and machine."""

    adapter: str
    kind: Literal["generator", "tokenizer"]
    family: Family
    task: TaskSpec
    settings: Settings
    sampling: Sampling | None
    weights_sha256: dict[str, str]
    """Weight digests of the adapter and its tokenizer, by adapter name."""
    settings_id: str
    result_id: str

    @property
    def label(self) -> str:
        return f"{self.task.task} {self.adapter}"


def make_cell(
    card: Card,
    task: TaskSpec,
    settings: Settings,
    sampling: Sampling | None,
    weights_sha256: dict[str, str],
    *,
    task_version: int,
    data: dict[str, str],
    machine: str,
) -> Cell:
    """The cell with its identities.

    `data` maps the task's data sources to their digests; `machine` names the device class, and enters the
    identity of speed and memory results alone.
    """
    shared: dict[str, Any] = {
        "adapter": card.name,
        "adapter_version": card.version,
        "weights": dict(sorted(weights_sha256.items())),
        "sampling": sampling.plain() if sampling else None,
        "init": settings.init,
        "dtype": settings.dtype,
        "compile": settings.compile,
    }
    parameters = {key: value for key, value in task.plain().items() if key not in TRANSPORT}
    own: dict[str, Any] = {
        **shared,
        "task": parameters,
        "task_version": task_version,
        "data": data,
        "seed": settings.seed,
    }
    if task.task in ("speed", "memory"):
        own["machine"] = machine
    return Cell(
        adapter=card.name,
        kind=card.kind,
        family=card.family,
        task=task,
        settings=settings,
        sampling=sampling,
        weights_sha256=weights_sha256,
        settings_id=identity(shared, "set"),
        result_id=identity(own, "res"),
    )
