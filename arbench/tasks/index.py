"""The tasks by name, with what planning needs to know of them. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..spec.cell import Unit
from ..spec.suite import Generate, Memory, Reconstruct, Speed, TaskSpec
from .base import cut


@dataclass(frozen=True)
class TaskInfo:
    """`version` changes whenever a result of the task can change. `exclusive`: needs a fresh worker and an
    otherwise idle machine."""

    implementation: str
    version: int
    kinds: frozenset[Literal["generator", "tokenizer"]]
    exclusive: bool
    units: Callable[[TaskSpec], tuple[Unit, ...]]
    source: Callable[[TaskSpec], str | None]
    """The data source that enters the result's identity."""


def _samples(task: TaskSpec) -> tuple[Unit, ...]:
    if not isinstance(task, Reconstruct | Generate) or task.n is None:
        raise ValueError(f"the planner resolves n before it cuts {task.task} into units")
    return cut(task.n)


def _one_per_batch(task: TaskSpec) -> tuple[Unit, ...]:
    assert isinstance(task, Speed | Memory)
    return tuple(Unit(index=index, start=batch, stop=batch) for index, batch in enumerate(task.batches))


def _data(task: TaskSpec) -> str | None:
    if isinstance(task, Reconstruct):
        return task.data
    return task.reference if isinstance(task, Generate) else None


TASK_INDEX: dict[str, TaskInfo] = {
    "reconstruct": TaskInfo(
        "arbench.tasks.reconstruct:ReconstructTask", 1, frozenset({"tokenizer"}), False, _samples, _data
    ),
    "generate": TaskInfo("arbench.tasks.generate:GenerateTask", 1, frozenset({"generator"}), False, _samples, _data),
    "speed": TaskInfo(
        "arbench.tasks.speed:SpeedTask", 1, frozenset({"generator", "tokenizer"}), True, _one_per_batch, _data
    ),
    "memory": TaskInfo(
        "arbench.tasks.memory:MemoryTask", 1, frozenset({"generator", "tokenizer"}), True, _one_per_batch, _data
    ),
}
