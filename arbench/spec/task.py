"""Tasks as everything but their workers sees them: a definition that planner, tables, summary and report ask.

Built-in tasks are the packages below `arbench.tasks` that define `TASK`. A package offers more with entry points:

    [project.entry-points."arbench.tasks"]
    mine = "my_package.tasks:TASK"

Imports no torch, and a module that defines a task imports none either: its `work` is loaded in a worker.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from .. import offered
from .base import Written
from .card import Ability, Card
from .result import At, Direction, Metric
from .unit import Unit

GROUP = "arbench.tasks"
BUILT_IN = "arbench.tasks"


def distinct(values: tuple[float, ...]) -> tuple[float, ...]:
    """Raises `ValueError` for a value that is there twice: both would be measured, as one number."""
    twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
    if twice is not None:
        raise ValueError(f"{twice:g} stands there twice")
    return values


Batches = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), AfterValidator(distinct)]
"""Numbers of images in a call."""


class TaskSpec(Written):
    """The parameters of a task in a suite. A subclass gives `task` its name as the only value and default."""

    task: str
    """Name of the task."""
    adapters: tuple[str, ...] = Field(default=(), exclude=True)
    """Globs of the suite's adapters that this task is for, and with ! before them of those that it is not for; empty:
    all."""

    def is_for(self, card: Card) -> bool:
        matching = [glob for glob in self.adapters if fnmatchcase(card.name, glob.removeprefix("!"))]
        only = any(not glob.startswith("!") for glob in self.adapters)
        return not any(glob.startswith("!") for glob in matching) and (not only or bool(matching))


@dataclass(frozen=True)
class MetricInfo:
    """A number that a task reports, for `arbench ls metrics` and the tables. `name` means one thing everywhere.

    `column`: in the main table from the start; other numbers are shown there on request.
    """

    name: str
    unit: str
    direction: Direction | None
    what: str
    column: bool = True


@dataclass(frozen=True)
class Pick:
    """A number for the summary: the first or last of a name (by place in the result), `at` some place if given."""

    name: str
    place: Literal["first", "last"] = "first"
    at: Mapping[str, At] = field(default_factory=dict)

    def of(self, metrics: Sequence[Metric]) -> Metric | None:
        found = [metric for metric in metrics if metric.name == self.name and self.at.items() <= metric.at.items()]
        found = [metric for metric in found if metric.value is not None] or found
        return found[0 if self.place == "first" else -1] if found else None


@dataclass(frozen=True)
class Data:
    """What a task reads, named as in the suite: a set of images and how they are prepared, or a file of prompts.

    what: "prompts" is what the prompts of a file say, "captions" what the caption files that it names hold, "file" its
    bytes. mixed: images may differ in size, as feature networks take each at its own.
    """

    source: str
    crop: str = "none"
    size: int | None = None
    limit: int | None = None
    what: Literal["images", "prompts", "captions", "file"] = "images"
    mixed: bool = False

    @property
    def name(self) -> str:
        """Its name among all that a cell reads: "mnist5k/heldout", "prompts:captions/prompts.txt"."""
        return self.source if self.what == "images" else f"{self.what}:{self.source}"


def prompts_in(digests: Mapping[str, str]) -> dict[str, str]:
    """Of digests by the name of their `Data`, those of what prompts say."""
    return {name: digest for name, digest in digests.items() if name.startswith("prompts:")}


@dataclass(frozen=True)
class Rates:
    """What work takes, by a rough model.

    image: seconds to sample one image, or to encode and decode it. coded: to encode and decode it, 0 without a
    tokenizer. flops: operations per second. pixels: values of an
    image, 3 H W, which are its bytes on disk. kept: bytes of images that a cell keeps at most, None for all. missing:
    weights of feature networks that are not here.
    """

    image: float
    flops: float
    pixels: int
    kept: int | None = None
    missing: frozenset[str] = frozenset()
    warm_up_calls: int = 5
    coded: float = 0.0


@dataclass(frozen=True)
class Effort:
    """What a cell takes: seconds of work, the largest batch at once, bytes on disk."""

    seconds: float
    batch: int
    disk_bytes: int = 0


@dataclass(frozen=True)
class TaskDefinition:
    """One task. `version` changes whenever a result of the task can change.

    work: "module:attribute" of the class whose `measure` does a unit and whose `finish` makes metrics of all units.
    group: heading of its columns in the main table. summary: what the terminal shows of it.
    units: how a resolved spec is cut into pieces of work. effort: what it takes.
    data: what it reads, which enters the result's identity. counted: the spec's field that is the number of images of
    the first of it (or of prompts, see `counts`), which None or too large a number is resolved against.
    draws: whether it draws samples, which are others under another seed.
    exclusive: needs a fresh worker and an otherwise idle machine.
    fresh_units: whether each unit of this spec wants a worker process of its own.
    own_process: its worker is started from scratch, never forked from a process that has torch loaded.
    needs: what a card must offer. unable: why an adapter cannot be put through it, "" if it can.
    weights: those of feature networks, by name in the weight registry, with the numbers that are null without them.
    notes: what else a user would want to know before the run.
    """

    name: str
    spec: type[TaskSpec]
    work: str
    version: int
    kinds: frozenset[Literal["generator", "tokenizer"]]
    group: str
    metrics: tuple[MetricInfo, ...]
    summary: tuple[Pick, ...]
    units: Callable[[Any], tuple[Unit, ...]]
    effort: Callable[[Any, Rates], Effort]
    data: Callable[[Any], tuple[Data, ...]] = lambda spec: ()
    counted: str = ""
    counts: Literal["images", "prompts"] = "images"
    draws: bool = False
    exclusive: bool = False
    fresh_units: Callable[[Any], bool] = lambda spec: False
    own_process: bool = False
    needs: Ability | None = None
    unable: Callable[[Card, Any], str] = lambda card, spec: ""
    weights: Callable[[Any], Mapping[str, str]] = lambda spec: {}
    notes: Callable[[Card, Any], Sequence[str]] = lambda card, spec: ()
    transport: frozenset[str] = frozenset()
    """Fields of the spec that do not change a result's value (noise is per sample); not part of its identity."""
    in_key: frozenset[str] = frozenset()
    """Fields of the spec that a number's key says already (convention, reference, place), or that only choose which
    numbers are made: numbers of one key share a column whatever these are."""

    def info(self, name: str) -> MetricInfo | None:
        return next((info for info in self.metrics if info.name == name), None)

    def counted_data(self, spec: Any) -> Data | None:
        """What the field `counted` is the number of; None where the spec names no such data."""
        return next((data for data in self.data(spec) if self.counted and data.what == self.counts), None)

    def why_unable(self, card: Card, spec: TaskSpec) -> str:
        """Why an adapter cannot be put through the task whatever its settings, or "" if it can."""
        if self.needs is not None and self.needs not in card.offers:
            return self.unable(card, spec) or f"its card does not offer `{self.needs}`"
        return self.unable(card, spec)


def distinctions(given: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[str]:
    """Of each adapter, task and parameters, what tells these from others of both: "reference mnist5k/train, n 100"."""
    alike: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for adapter, task, parameters in given:
        alike.setdefault((adapter, task), []).append(parameters)
    varying = {(adapter, task): _varying(task, own) for (adapter, task), own in alike.items()}
    return [
        ", ".join(f"{name.replace('_', ' ')} {_word(parameters.get(name))}" for name in varying[adapter, task])
        for adapter, task, parameters in given
    ]


def _varying(task: str, parameters: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of those that are not the same everywhere and can change a result."""
    definition = tasks().get(task)
    left_out = definition.transport if definition else frozenset[str]()
    every = dict.fromkeys(name for own in parameters for name in own if name not in left_out)
    return [name for name in every if any(own.get(name) != parameters[0].get(name) for own in parameters)]


def _word(value: Any) -> str:
    """A value as a suite has it, short."""
    if isinstance(value, list | tuple):
        return " + ".join(map(_word, value)) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _built_in() -> Iterator[tuple[str, TaskDefinition]]:
    package = importlib.import_module(BUILT_IN)
    for module in sorted(found.name for found in pkgutil.iter_modules(package.__path__) if found.ispkg):
        definition = getattr(importlib.import_module(f"{BUILT_IN}.{module}"), "TASK", None)
        if isinstance(definition, TaskDefinition):
            yield "arbench", definition


def _offered(value: Any, name: str) -> TaskDefinition:
    if not isinstance(value, TaskDefinition):
        raise TypeError(f"a TaskDefinition is expected, this is a {type(value).__name__}")
    return value


@functools.cache
def tasks() -> Mapping[str, TaskDefinition]:
    """Every task by name: ours, those that measure alone on a machine last, then those of installed packages."""
    found: dict[str, TaskDefinition] = {}
    origins: dict[str, str] = {}
    built_in = sorted(_built_in(), key=lambda entry: entry[1].exclusive)
    for origin, definition in (*built_in, *offered.offers(GROUP, _offered)):
        if definition.name in found:
            known = origins[definition.name]
            twice = f"two tasks are named {definition.name!r}: one from {known}, one from {origin}"
            offered.leave_out(GROUP, origin, twice)
            continue
        found[definition.name], origins[definition.name] = definition, origin
    return MappingProxyType(found)
