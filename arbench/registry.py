"""Adapters by name: cards of the built-in ones and of installed packages, loaded lazily, with did-you-mean.

A package offers adapters with an entry point in the group `arbench.adapters` whose value is a tuple of cards:

    [project.entry-points."arbench.adapters"]
    mine = "my_package.cards:CARDS"
"""

from __future__ import annotations

import fnmatch
import functools
import importlib
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from .errors import ConfigError, UnknownName
from .spec.card import Card

GROUP = "arbench.adapters"
BUILT_IN = "arbench.adapters.index:CARDS"


def resolve(path: str) -> Any:
    """The object at "module:attribute"."""
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot load {path!r}", str(error), "check the card's `implementation`") from error


def _add(cards: dict[str, Card], origins: dict[str, str], found: Iterable[Card], origin: str) -> None:
    for card in found:
        if card.name in cards:
            raise ConfigError(
                f"two adapters are named {card.name!r}",
                f"one from {origins[card.name]}, one from {origin}",
                "uninstall one, or rename it",
            )
        cards[card.name] = card
        origins[card.name] = origin


@functools.cache
def _load() -> tuple[MappingProxyType[str, Card], MappingProxyType[str, str]]:
    cards: dict[str, Card] = {}
    origins: dict[str, str] = {}
    _add(cards, origins, resolve(BUILT_IN), "arbench")
    for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
        origin = point.dist.name if point.dist else point.value
        try:
            found = point.load()
        except Exception as error:
            raise ConfigError(
                f"the adapters of package {origin!r} cannot be loaded",
                f"{point.value}: {type(error).__name__}: {error}",
                f"pip uninstall {origin}, or mend it",
            ) from error
        _add(cards, origins, found, origin)
    return MappingProxyType(cards), MappingProxyType(origins)


def cards() -> MappingProxyType[str, Card]:
    """All cards by name."""
    return _load()[0]


def origins() -> MappingProxyType[str, str]:
    """The distribution that each adapter comes from, by name."""
    return _load()[1]


def card(name: str) -> Card:
    known = cards()
    if name not in known:
        raise UnknownName("adapter", name, known)
    return known[name]


def matching(patterns: Sequence[str]) -> list[Card]:
    """Cards whose names match any glob, in the order of the patterns; a pattern without a match is an error."""
    known = cards()
    chosen: dict[str, Card] = {}
    for pattern in patterns:
        names = [pattern] if pattern in known else fnmatch.filter(sorted(known), pattern)
        if not names:
            raise UnknownName("adapter", pattern, known)
        chosen.update({name: known[name] for name in names})
    return list(chosen.values())
