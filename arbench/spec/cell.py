"""A cell: one adapter through one task under one resolved setting, the unit of planning and of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from .base import FileName, Frozen
from .card import Card, Family
from .identity import identity
from .sampling import Sampling
from .suite import AnyTask, Settings
from .task import TaskSpec, distinctions, tasks


class Cell(Frozen):
    """`settings_id` names what speed and quality must share; `result_id` adds task, data and machine."""

    adapter: str
    kind: Literal["generator", "tokenizer"]
    family: Family
    task: AnyTask
    settings: Settings
    sampling: Sampling | None
    weights_sha256: dict[str, str]
    """Weight digests of the adapter and its tokenizer, by adapter name."""
    features_sha256: dict[str, str] = Field(default_factory=dict)
    """Weight digests of the feature networks behind the cell's numbers, by name; those that are not here are absent."""
    data: dict[str, str] = Field(default_factory=dict)
    """Source of images -> digest of its content."""
    replicate: int = 0
    """Which of several trainings of the adapter its weights are of."""
    replicates: int = 1
    """How many of them there are."""
    swept: str = ""
    """Its place in a sweep, in words: "guidance.scale 1.5"; says nothing that `sampling` does not."""
    distinction: str = ""
    """What tells its task from others of that name that the adapter goes through, in words: "reference mnist5k/train";
    says nothing that `task` does not."""
    settings_id: str
    result_id: FileName

    @property
    def setting(self) -> str:
        """What tells it from the other cells of its adapter and task, "" where it is the only one."""
        return ", ".join(part for part in (self.swept, self.distinction) if part)

    @property
    def label(self) -> str:
        return f"{self.task.task} {self.adapter}" + (f" ({self.setting})" if self.setting else "")


def told_apart(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of a plan, each with its `distinction`."""
    words = distinctions([(cell.adapter, cell.task.task, cell.task.plain()) for cell in cells])
    return [cell.model_copy(update={"distinction": told}) for cell, told in zip(cells, words, strict=True)]


def trained(name: str, replicate: int) -> str:
    """What the weights of one of several trainings of an adapter go by: NAME of the first, NAME@1 of the next."""
    return f"{name}@{replicate}" if replicate else name


def make_cell(
    card: Card,
    task: TaskSpec,
    settings: Settings,
    sampling: Sampling | None,
    weights_sha256: dict[str, str],
    *,
    data: dict[str, str],
    machine: str,
    features_sha256: dict[str, str] | None = None,
    swept: str = "",
    replicate: tuple[int, int] = (0, 1),
) -> Cell:
    """The cell with its identities.

    `data` maps the task's data sources to their digests; `machine` names the device class, and enters the
    identity of results that are measured alone on a machine. `replicate`: which of how many trainings.
    """
    definition = tasks()[task.task]
    shared: dict[str, Any] = {
        "adapter": card.name,
        "adapter_version": card.version,
        "weights": dict(sorted(weights_sha256.items())),
        "sampling": sampling.plain() if sampling else None,
        "init": settings.init,
        "dtype": settings.dtype,
        "compile": settings.compile,
    }
    if settings.graph != "auto":  # what the device gives has no name of its own
        shared["graph"] = settings.graph
    parameters = {key: value for key, value in task.plain().items() if key not in definition.transport}
    own: dict[str, Any] = {
        **shared,
        "task": parameters,
        "task_version": definition.version,
        "data": data,
        "features": dict(sorted((features_sha256 or {}).items())),
        "seed": settings.seed,
    }
    if definition.exclusive:
        own["machine"] = machine
    return Cell(
        adapter=card.name,
        kind=card.kind,
        family=card.family,
        task=task,
        settings=settings,
        sampling=sampling,
        weights_sha256=weights_sha256,
        features_sha256=features_sha256 or {},
        data=data,
        swept=swept,
        replicate=replicate[0],
        replicates=replicate[1],
        settings_id=identity(shared, "set"),
        result_id=identity(own, "res"),
    )
