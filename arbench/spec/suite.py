"""A suite: which adapters and tokenizers go through which tasks, under which settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from ..errors import ConfigError, closest
from .base import Written
from .task import TaskSpec, tasks

Dtype = Literal["float32", "bfloat16", "float16"]
GraphMode = Literal["auto", "on", "off"]


def _switched(value: Any) -> Any:
    """What YAML reads `on` and `off` as, in the words of the file."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class Settings(Written):
    """Settings of every cell of a suite."""

    seed: int = Field(default=0, ge=0)
    """Seed of all samples: sample i depends on it and on i alone."""
    seeds: int = Field(default=1, ge=1, le=100)
    """Tasks that draw samples do so under this many seeds, `seed` and those after it; the spread between them stands
    beside the interval."""
    init: Literal["checkpoint", "random"] = "checkpoint"
    """"random": untrained weights in place of every checkpoint, to rehearse a run; each number is flagged."""
    dtype: Dtype = "float32"
    """Number format of the networks that sample, encode and decode."""
    compile: bool = False
    """Compile the networks with `torch.compile`, before anything is timed."""
    graph: Annotated[GraphMode, BeforeValidator(_switched)] = "auto"
    """Record a whole sampling call as one CUDA graph, before anything is timed: "auto" on CUDA; "on" asks for CUDA."""
    device: str = "auto"
    """"auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N"."""
    max_params: int | None = Field(default=None, ge=1)
    """Adapters with more parameters are left out; null: none is."""
    keep_images: int | None = Field(default=256, ge=0)
    """Megabytes of images that each cell keeps, from its first sample on; null: all. Features are always kept."""


def check_graph(mode: str, device: str) -> None:
    """Raise ConfigError if CUDA graphs are asked for on a device that has none."""
    if mode == "on" and not device.startswith("cuda"):
        raise ConfigError(
            f"graph: on, but {device!r} records no CUDA graphs",
            "a graph is what a CUDA device replays",
            "leave graph at auto, or choose a CUDA device",
        )


def _parsed(value: Any) -> Any:
    """A stored task, {"task": NAME, ...}, as the spec of its definition."""
    if not isinstance(value, dict):
        return value
    definition = tasks().get(str(value.get("task")))
    if definition is None:
        raise ValueError(f"unknown task {value.get('task')!r}; known: {', '.join(tasks())}")
    return definition.spec.model_validate(value)


AnyTask = Annotated[SerializeAsAny[TaskSpec], BeforeValidator(_parsed)]
"""The parameters of any task that is installed."""


class Suite(Written):
    """A parsed suite file. Adapter and tokenizer names may be globs.

    `sampling` changes fields of the cards' native sampling, by adapter glob: {"raster/*": {"top_k": 100}}. A list of
    values is a sweep: several lists are a grid, and with `zip: true` beside them they are paired. "native" stands for
    the card's own value, `guidance: off` for none.
    """

    suite: str
    """Name of the suite."""
    version: int = Field(default=1, ge=1)
    """Number to raise whenever a change makes results differ from those before."""
    title: str = ""
    """Heading of the report."""
    adapters: tuple[str, ...] = ()
    """Generators: names or globs of `arbench ls adapters`."""
    tokenizers: tuple[str, ...] = ()
    """Tokenizers: names or globs of `arbench ls tokenizers`."""
    settings: Settings = Settings()
    """Settings of every adapter and task."""
    tasks: tuple[AnyTask, ...]
    """What is measured, each written `- NAME` or `- NAME: {KEY: VALUE}`."""
    sampling: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Glob of adapters -> what to change of the sampling of their cards; later globs win. A list is a sweep."""
    needs: dict[str, str] = Field(default_factory=dict)
    """Data that the user of the suite gives: the name that stands for it in the tasks -> what it is and where it comes
    from."""
    sources: dict[str, str] = Field(default_factory=dict)
    """What is given: a name of `needs` -> a path or another source of data."""
    weights: dict[str, str] = Field(default_factory=dict)
    """Name of an adapter, or of a feature network's weights ("inception") -> path of the file."""
    replicates: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Name of an adapter -> weight files of several trainings of it under other seeds: each is measured, and one row
    has the mean, the spread and the number of them."""

    @model_validator(mode="after")
    def _several_trainings(self) -> Self:
        for name, paths in self.replicates.items():
            if len(set(paths)) < max(2, len(paths)):
                raise ValueError(f"replicates: {name} needs two weight files or more, each once")
            if name in self.weights:
                raise ValueError(f"replicates: {name} has weights already; list the file here alone")
        return self

    @model_validator(mode="after")
    def _known_sources(self) -> Self:
        for name in self.sources:
            if name not in self.needs:
                known = ", ".join(closest(name, self.needs) or self.needs) or "nothing"
                raise ValueError(f"sources: the suite needs no {name!r}, but {known}")
        return self
