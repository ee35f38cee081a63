"""The tasks by name, with what planning needs to know of them. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..spec.card import Ability, Card
from ..spec.cell import Unit
from ..spec.suite import Edit, Generate, Likelihood, Memory, Reconstruct, Speed, TaskSpec
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
    ability: Ability | None = None
    """What a card must offer to be put through it."""


def _samples(task: TaskSpec) -> tuple[Unit, ...]:
    if not isinstance(task, Reconstruct | Generate | Edit | Likelihood) or task.n is None:
        raise ValueError(f"the planner resolves n before it cuts {task.task} into units")
    return cut(task.n)


def _one_per_batch(task: TaskSpec) -> tuple[Unit, ...]:
    assert isinstance(task, Speed | Memory)
    return tuple(Unit(index=index, start=batch, stop=batch) for index, batch in enumerate(task.batches))


def _data(task: TaskSpec) -> str | None:
    if isinstance(task, Reconstruct | Edit | Likelihood):
        return task.data
    return task.reference if isinstance(task, Generate) else None


TASK_INDEX: dict[str, TaskInfo] = {
    "reconstruct": TaskInfo(
        "arbench.tasks.reconstruct:ReconstructTask", 1, frozenset({"tokenizer"}), False, _samples, _data
    ),
    "generate": TaskInfo("arbench.tasks.generate:GenerateTask", 1, frozenset({"generator"}), False, _samples, _data),
    "edit": TaskInfo(
        "arbench.tasks.edit:EditTask", 1, frozenset({"generator"}), False, _samples, _data, ability="edits"
    ),
    "likelihood": TaskInfo(
        "arbench.tasks.likelihood:LikelihoodTask",
        1,
        frozenset({"generator"}),
        False,
        _samples,
        _data,
        ability="scores",
    ),
    "speed": TaskInfo(
        "arbench.tasks.speed:SpeedTask", 1, frozenset({"generator", "tokenizer"}), True, _one_per_batch, _data
    ),
    "memory": TaskInfo(
        "arbench.tasks.memory:MemoryTask", 1, frozenset({"generator", "tokenizer"}), True, _one_per_batch, _data
    ),
}


_DOES_NOT: dict[Ability, str] = {
    "edits": "it cannot redraw a part of an image (its card does not offer `edits`)",
    "scores": "it gives no teacher-forced scores (its card does not offer `scores`)",
}


def unable(card: Card, task: TaskSpec) -> str:
    """Why a generator cannot be put through a task whatever its settings, or "" if it can."""
    ability = TASK_INDEX[task.task].ability
    if ability is None:
        return ""
    if ability == "scores" and card.tokens is not None and card.tokens.kind == "continuous":
        return "its tokens are continuous and drawn by diffusion: they have no tractable likelihood"
    if ability not in card.offers:
        return _DOES_NOT[ability]
    if card.condition == "text":
        return f"it is conditioned on text, and the images of {task.task} have classes"
    if isinstance(task, Edit) and card.tokens is not None and card.tokens.layout == "sequence":
        return "its tokens are a sequence and have no place in the image"
    if isinstance(task, Edit) and task.condition == "next" and card.condition != "class":
        return "it has no classes to edit by"
    return ""
