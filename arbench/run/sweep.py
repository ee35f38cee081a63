"""Sweeps: the settings of an adapter under a suite in which sampling values are lists.

A list stands for one value after another. Several lists make a grid, the last one changing fastest; with `zip: true`
beside them they are paired. "native" stands for the card's own value, and `guidance: off` for no guidance.
"""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..spec.card import Card
from ..spec.sampling import Guidance
from ..spec.suite_file import SuiteFile, where

NESTED = ("guidance", "extra")
"""Fields of `Sampling` that are mappings."""
NATIVE, ZIP = "native", "zip"
OFF = ("off", False)
"""`off` is a truth value in YAML."""


@dataclass(frozen=True)
class Change:
    """A value of a suite for one field of an adapter's sampling, by its dotted name, and where it stands."""

    field: str
    value: Any
    place: str

    @property
    def values(self) -> list[Any]:
        """The values it goes through; one for a value that is not a list."""
        return list(self.value) if isinstance(self.value, list) else [self.value]


@dataclass(frozen=True)
class Point:
    """One setting of a sweep. `at` are the values of the swept fields, {} without a sweep."""

    changes: tuple[Change, ...]
    at: Mapping[str, Any]


def changes_of(card: Card, suite_file: SuiteFile) -> tuple[list[Change], bool]:
    """Everything that the suite changes in the sampling of `card`, later globs last, and whether lists are paired."""
    found: dict[str, Change] = {}
    paired = False
    for glob, fields in suite_file.suite.sampling.items():
        if not fnmatch.fnmatchcase(card.name, glob):
            continue
        for field, value in fields.items():
            if field == ZIP:
                paired = bool(value)
                continue
            given = {f"{field}.{name}": each for name, each in value.items()} if _nested(field, value) else {}
            for name, each in (given or {field: value}).items():
                place = where(suite_file, ("sampling", glob, *name.split(".", 1)))
                found.pop(name, None)
                found.pop(field, None)  # a scale given later replaces `guidance: [native, off]`, not only a part of it
                found[name] = Change(name, each, place)
    return list(found.values()), paired


def _nested(field: str, value: Any) -> bool:
    return field in NESTED and isinstance(value, dict)


def points(card: Card, suite_file: SuiteFile) -> list[Point]:
    """The settings of `card`, in order. Raises `ConfigError` for an empty list, and for pairs of unequal lengths."""
    changes, paired = changes_of(card, suite_file)
    swept = [change for change in changes if isinstance(change.value, list)]
    for change in swept:
        if not change.value:
            raise ConfigError(f"{change.place}: the list of {change.field} is empty", "", "give it one value at least")
    if paired:
        _of_one_length(swept)
    rows: Iterable[tuple[Any, ...]] = (
        zip(*(change.values for change in swept), strict=True)
        if paired and swept
        else itertools.product(*(change.values for change in swept))
    )
    found = []
    for row in rows:
        at = dict(zip((change.field for change in swept), row, strict=True))
        found.append(
            Point(tuple(Change(each.field, at.get(each.field, each.value), each.place) for each in changes), at)
        )
    return found


def _of_one_length(swept: list[Change]) -> None:
    lengths = {len(change.value) for change in swept}
    if len(lengths) > 1:
        told = ", ".join(f"{change.field} has {len(change.value)}" for change in swept)
        raise ConfigError(
            f"{swept[-1].place}: `zip: true` pairs lists of one length", told, "or leave `zip` out for a grid"
        )


def applied(card: Card, point: Point) -> dict[str, Any]:
    """The card's native sampling with the changes of a point, as plain data to be checked by `Sampling`."""
    native = card.native.plain()
    values = card.native.plain()
    for change in point.changes:
        field, _, name = change.field.partition(".")
        if name:
            own = native[field].get(name) if change.value == NATIVE else change.value
            values[field] = {**values[field], name: own}
        elif change.value == NATIVE and field != "order":
            values[field] = native[field]
        elif field == "guidance" and any(change.value is word for word in OFF):
            values[field] = Guidance().plain()
        elif field in NESTED and isinstance(change.value, dict):
            values[field] = {**values[field], **change.value}
        else:
            values[field] = change.value
    return values


def words(at: Mapping[str, Any]) -> str:
    """The place in a sweep, short: "guidance.scale 1.5, top_k 100"; "" without a sweep."""
    return ", ".join(f"{name} {_word(value)}" for name, value in at.items())


def _word(value: Any) -> str:
    if value is None or any(value is word for word in OFF):
        return "off"
    if isinstance(value, dict):
        return " ".join(f"{name} {_word(each)}" for name, each in value.items())
    return str(value)
