"""Every key of a suite with its type, default and meaning, read from the models: for `arbench ls keys` and the docs."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .base import Written
from .problem import bound
from .sampling import Guidance, Sampling
from .suite import Settings, Suite
from .task import TaskDefinition, TaskSpec, tasks

REQUIRED = "required"
ZIP = (
    "zip",
    "true or false",
    "false",
    "Pairs the lists of a sweep, the first value of each, then the second, in place of a grid.",
)
"""A key beside the fields of `Sampling`: how a suite's lists are meant, which is not a setting of a sample."""

_BOUNDS = ("ge", "gt", "le", "lt")
_WORDS = {str: ("string", "strings"), bool: ("true or false", "booleans"), Any: ("any value", "values")}
_WORDS |= {int: ("whole number", "whole numbers"), float: ("number", "numbers")}


@dataclass(frozen=True)
class Key:
    """A key as a suite has it. `group` is the part of the suite it stands in: "suite", "settings", "generate", ..."""

    group: str
    name: str
    type: str
    default: str
    meaning: str

    @property
    def dotted(self) -> str:
        """As `--set` takes it: "settings.seed", "generate.n", 'sampling."GLOB".top_k'."""
        above = {"suite": "", "sampling": 'sampling."GLOB".', "guidance": 'sampling."GLOB".guidance.'}
        return above.get(self.group, f"{self.group}.") + self.name


def keys(known: Mapping[str, TaskDefinition] | None = None) -> list[Key]:
    """Of the suite, its settings, its sampling and each of the tasks `known`, in this order; None: all tasks."""
    models: dict[str, type[BaseModel]] = {"suite": Suite, "settings": Settings, "sampling": Sampling}
    models |= {"guidance": Guidance}
    models |= {name: definition.spec for name, definition in (tasks() if known is None else known).items()}
    found: list[Key] = []
    for group, model in models.items():
        found += _of(group, model)
        if model is Sampling:
            found.append(Key(group, *ZIP))
    return found


def built_in() -> dict[str, TaskDefinition]:
    """The tasks that come with arbench, for pages that must not depend on what else is installed."""
    return {name: each for name, each in tasks().items() if each.spec.__module__.startswith("arbench.tasks.")}


def _of(group: str, model: type[BaseModel]) -> Iterator[Key]:
    meanings = _meanings(model)
    for name, field in model.model_fields.items():
        if name == "task" and issubclass(model, TaskSpec):
            continue  # written as the key that the others stand below
        default = "native" if group in ("sampling", "guidance") else _default(field)
        yield Key(group, name, _type(field), default, meanings.get(name, ""))


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """The docstring below each field, of the model's bases too, on one line. Read from the source, which takes time:
    pydantic would do so for every command (`use_attribute_docstrings`)."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, Written):
            continue
        try:
            (parsed,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except OSError:  # a task from code that is in no file
            continue
        assert isinstance(parsed, ast.ClassDef)
        for field, below in itertools.pairwise(parsed.body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[field.target.id] = " ".join(below.value.value.split())
    return found


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return REQUIRED
    value = field.get_default(call_default_factory=True)
    assert value is not PydanticUndefined
    if isinstance(value, BaseModel):
        return "those below"
    return json.dumps(value, ensure_ascii=False)


def _type(field: FieldInfo) -> str:
    bounds = {name: getattr(each, name) for each in field.metadata for name in _BOUNDS if hasattr(each, name)}
    return _words(field.annotation, bounds)


def _words(annotation: Any, bounds: Mapping[str, float] | None = None, *, several: bool = False) -> str:
    """A type in plain words; `several` for what a list or mapping is of."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _WORDS:
        word = _WORDS[annotation][several]
        return f"{word}, {_range(bounds)}" if bounds else word
    if origin is typing.Annotated:
        return _words(arguments[0], bounds, several=several)
    if origin is Literal:
        return _or([str(each) for each in arguments])
    if origin in (typing.Union, types.UnionType):
        others = [each for each in arguments if each is not type(None)]
        parts = [_words(each, bounds) for each in others]
        if len(others) == len(arguments):
            return _or(parts)
        return f"{parts[0]}, or null" if len(parts) == 1 and "," in parts[0] else _or([*parts, "null"])
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {_words(arguments[0], several=True)}"
        return f"list of {len(arguments)} {_words(arguments[0], several=True)}"
    if origin is dict:
        if typing.get_origin(arguments[1]) is dict:
            return "mapping of mappings"
        return "mapping" if several or arguments[1] is Any else f"mapping of {_words(arguments[1], several=True)}"
    if isinstance(annotation, type) and issubclass(annotation, TaskSpec):
        return "tasks"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    raise TypeError(f"no words for {annotation!r}: add them to arbench.spec.reference")


def _range(bounds: Mapping[str, float]) -> str:
    """ "at least 1", "0 to 1", "above 0, at most 1"."""
    least, above, most, below = (bounds.get(name) for name in _BOUNDS)
    if least is not None and most is not None:
        return f"{bound(least)} to {bound(most)}"
    parts = [f"above {bound(above)}"] if above is not None else []
    parts += [f"at least {bound(least)}"] if least is not None else []
    parts += [f"at most {bound(most)}"] if most is not None else []
    parts += [f"below {bound(below)}"] if below is not None else []
    return ", ".join(parts)


def _or(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"


TITLES = {
    "suite": "The suite",
    "settings": "`settings`",
    "sampling": "`sampling`, below a glob of adapters",
    "guidance": "`guidance`, within `sampling`",
}


def markdown(found: Sequence[Key]) -> str:
    """The keys as one table for each group, under headings of the third level."""
    parts = []
    for group in dict.fromkeys(key.group for key in found):
        parts.append(f"### {TITLES.get(group, f'Task `{group}`')}\n")
        rows = [(f"`{key.name}`", key.type, f"`{key.default}`", key.meaning) for key in found if key.group == group]
        parts.append(table(("key", "type", "default", "meaning"), rows) + "\n")
    return "\n".join(parts)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
