"""Conventions by name: those that ship with arbench and those of installed packages, and how they are chosen. No torch.

A package offers conventions, and with them metrics of its own, through an entry point:

    [project.entry-points."arbench.conventions"]
    mine = "my_package.conventions:CONVENTION"
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from .. import offered
from ..errors import UnknownName
from ..features.recipes import RECIPES
from .built_in_conventions import BUILT_IN
from .definition import Convention, Definition

__all__ = ["GROUP", "Convention", "Definition", "conventions", "definitions", "needed_recipes", "select"]

GROUP = "arbench.conventions"
"""Entry points of conventions that packages offer."""


@functools.cache
def conventions() -> Mapping[str, Convention]:
    """Every convention by name: ours, then those of installed packages (entry points in the group `GROUP`)."""
    found, origins = dict(BUILT_IN), dict.fromkeys(BUILT_IN, "arbench")
    for origin, part in offered.offers(GROUP, _offered):
        new: dict[str, Convention] = {}
        twice = ""
        for convention in part:
            if convention.name in found or convention.name in new:
                known = origins.get(convention.name, origin)
                twice = f"two conventions are named {convention.name!r}: one from {known}, one from {origin}"
            new[convention.name] = convention
        if twice:
            offered.leave_out(GROUP, origin, twice)
            continue
        found |= new
        origins |= dict.fromkeys(new, origin)
    return MappingProxyType(found)


def _offered(value: Any, name: str) -> tuple[Convention, ...]:
    """What an entry point gives: a convention, or several."""
    part = tuple(value) if isinstance(value, list | tuple) else (value,)
    for convention in part:
        if not isinstance(convention, Convention):
            raise TypeError(f"a Convention is expected, this is or holds a {type(convention).__name__}")
    return part


def select(names: Iterable[str]) -> list[Convention]:
    """The conventions of these names, in the order asked for. Raises `UnknownName`."""
    chosen: dict[str, Convention] = {}
    for name in names:
        if name not in conventions():
            raise UnknownName("convention", name, conventions(), offered.hint(GROUP, "arbench ls conventions"))
        chosen[name] = conventions()[name]
    return list(chosen.values())


def definitions(chosen: Iterable[Convention], metrics: Sequence[str] = ()) -> list[Definition]:
    """Their definitions, only of metrics that one of the globs in `metrics` matches. Raises `UnknownName`."""
    found = [definition for convention in chosen for definition in convention.definitions]
    known = sorted({definition.metric for definition in found})
    for glob in metrics:
        if not any(fnmatchcase(name, glob) for name in known):
            raise UnknownName("metric of the conventions asked for", glob, known, "arbench ls conventions")
    return [item for item in found if not metrics or any(fnmatchcase(item.metric, glob) for glob in metrics)]


def needed_recipes(chosen: Iterable[Definition]) -> list[str]:
    return [name for name in RECIPES if name in {definition.recipe for definition in chosen}]
