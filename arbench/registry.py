"""Adapters by name: the systems that ship with arbench and those of installed packages, loaded lazily.

Every package two levels below `arbench.adapters` (`raster/llamagen`) is a system and exports a `SYSTEM`. Systems are
listed by family, in the order of `Family`, and within a family by folder; tokenizers come in the order of the
generators that they were published with. Adapters of one system are in the order of its cards.

Other packages offer theirs with an entry point in the group `arbench.adapters`, after the built-in ones and in the
order of the entry points' names; a package that is broken is named and left out (`offered`). The value is a tuple of
cards, a `System`, or a tuple of systems:

    [project.entry-points."arbench.adapters"]
    mine = "my_package.cards:CARDS"
"""

from __future__ import annotations

import fnmatch
import functools
import importlib
from collections.abc import Sequence
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

from . import kept_systems, offered
from .errors import ConfigError, UnknownName
from .spec.card import Card, Family
from .spec.system import System

GROUP = "arbench.adapters"
FAMILIES: tuple[Family, ...] = get_args(Family)
TOKENIZERS = f"{GROUP}.tokenizers"


def resolve(path: str) -> Any:
    """The object at "module:attribute"."""
    module, _, attribute = path.partition(":")
    try:
        with offered.guarded():
            return getattr(importlib.import_module(module), attribute)
    except offered.Failed as error:
        raise ConfigError(f"cannot load {path!r}", str(error), "check the card's `implementation`") from error


# ---- finding systems -------------------------------------------------------------------------------------------------


def built_in() -> list[System]:
    """Those that ship with us."""
    rank = {f"{GROUP}.{family}": index for index, family in enumerate(FAMILIES)}
    families = sorted(_packages(GROUP), key=lambda family: rank.get(family, len(rank)))
    return kept_systems.systems(GROUP, families, lambda: _built_in(families))


def _built_in(families: Sequence[str]) -> list[System]:
    generators = [_system(name) for family in families if family != TOKENIZERS for name in _packages(family)]
    tokenizers = [_system(name) for name in _packages(TOKENIZERS)]
    order = {system.name: index for index, system in enumerate(generators)}
    return generators + sorted(tokenizers, key=lambda system: order.get(system.name, len(order)))


def _packages(parent: str) -> list[str]:
    """The packages directly below a package, by name."""
    path = importlib.import_module(parent).__path__
    return [module.name for module in iter_modules(path, f"{parent}.") if module.ispkg]


def _system(package: str) -> System:
    try:
        found = importlib.import_module(package).SYSTEM
    except Exception as error:  # whatever a half-written system raises
        raise ConfigError(
            f"the system {package} cannot be loaded", f"{type(error).__name__}: {error}", "repair it"
        ) from error
    if not isinstance(found, System):
        raise ConfigError(f"the system {package} cannot be loaded", f"SYSTEM is a {type(found).__name__}", "repair it")
    return found


def _offered(found: Any, name: str) -> list[System]:
    """What an installed package offers; cards without a system are one of the entry point's name."""
    if not isinstance(found, System | tuple | list):
        raise TypeError(f"a System or a tuple of cards or systems is expected, this is a {type(found).__name__}")
    parts = (found,) if isinstance(found, System) else tuple(found)
    systems = [part for part in parts if isinstance(part, System)]
    cards = tuple(part for part in parts if not isinstance(part, System))
    for file in (file for system in systems for file in system.files):
        file.check_patterns()
    return [*systems, System(name=name, cards=cards)] if cards else systems


# ---- what was found --------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    cards: MappingProxyType[str, Card]
    origins: MappingProxyType[str, str]
    systems: tuple[System, ...]


@functools.cache
def _load() -> _Found:
    systems: list[System] = []
    cards: dict[str, Card] = {}
    origins: dict[str, str] = {}
    for origin, part in [("arbench", built_in()), *offered.offers(GROUP, _offered)]:
        new: dict[str, Card] = {}
        twice = ""
        for card in (card for system in part for card in system.cards):
            if card.name in cards or card.name in new:
                known = origins.get(card.name, origin)
                twice = twice or f"two adapters are named {card.name!r}: one from {known}, one from {origin}"
            new[card.name] = card
        if twice and origin == "arbench":
            raise ConfigError(twice, "both ship with arbench", "rename one")
        if twice:  # the whole package: a part of it would be one that nobody has tested
            offered.leave_out(GROUP, origin, twice)
            continue
        systems += part
        cards |= new
        origins |= dict.fromkeys(new, origin)
    return _Found(MappingProxyType(cards), MappingProxyType(origins), tuple(systems))


def systems() -> tuple[System, ...]:
    """All systems, in the order of listings."""
    return _load().systems


def cards() -> MappingProxyType[str, Card]:
    """All cards by name."""
    return _load().cards


def origins() -> MappingProxyType[str, str]:
    """The distribution that each adapter comes from, by name."""
    return _load().origins


def _unknown(name: str) -> UnknownName:
    kind = "tokenizers" if name.startswith("tok") else "adapters"
    return UnknownName("adapter", name, cards(), offered.hint(GROUP, f"arbench ls {kind}"))


def card(name: str) -> Card:
    """The card of this name, or of what `prefix:REST` names to a system's bridge."""
    known = cards()
    if name in known:
        return known[name]
    found = bridged(name)
    if found is None:
        raise _unknown(name)
    return found


def bridged(name: str) -> Card | None:
    """The card of an adapter that is found, not listed ("diffusers:FOLDER"); None for a name of another form."""
    prefix, colon, rest = name.partition(":")
    path = next((each.bridges[prefix] for each in systems() if prefix in each.bridges), None) if colon else None
    if path is None:
        return None
    found = resolve(path)(rest)
    assert isinstance(found, Card)
    return found


def matching(patterns: Sequence[str]) -> list[Card]:
    """Cards whose names match any glob, in the order of the patterns; a pattern without a match is an error."""
    known = cards()
    chosen: dict[str, Card] = {}
    for pattern in patterns:
        found = None if pattern in known else bridged(pattern)
        if found is not None:
            chosen[found.name] = found
            continue
        names = [pattern] if pattern in known else fnmatch.filter(sorted(known), pattern)
        if not names:
            raise _unknown(pattern)
        chosen.update({name: known[name] for name in names})
    return list(chosen.values())
