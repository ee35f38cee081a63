"""The sampling of an adapter under a suite: the card's native values, changed field by field, with origins."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigError, suggestion
from ..spec.card import Card
from ..spec.identity import canonical_json
from ..spec.problem import said, shown
from ..spec.sampling import HOW_OFF, Guidance, Sampling
from ..spec.suite_file import SuiteFile, where
from .sweep import NATIVE, NESTED, OFF, ZIP, Point, applied, points


@dataclass(frozen=True)
class Resolved:
    """`problem` says what the adapter does not support, "" if it supports all; `origins` by dotted field; `at` is its
    place in a sweep."""

    sampling: Sampling
    origins: dict[str, str]
    problem: str
    at: dict[str, Any]


def _unknown(place: str, what: str, name: str, known: Iterable[str]) -> ConfigError:
    why, hint = suggestion(name, known), "arbench show SUITE --resolved lists every value"
    return ConfigError(f"{place}: unknown {what} {name!r}", why, hint)


def check_overrides(suite_file: SuiteFile, cards: Iterable[Card]) -> None:
    """Refuses unknown fields and globs that no known generator matches, also where nothing planned uses them."""
    generators = [card.name for card in cards if card.kind == "generator"]
    for glob, fields in suite_file.suite.sampling.items():
        if not any(fnmatch.fnmatchcase(name, glob) for name in generators):
            place, why = where(suite_file, ("sampling", glob)), suggestion(glob, generators)
            raise ConfigError(f"{place}: unknown generator in sampling: {glob!r}", why, "arbench ls adapters")
        for field, value in fields.items():
            place = where(suite_file, ("sampling", glob, field))
            if field == ZIP:
                if not isinstance(value, bool):
                    raise ConfigError(f"{place}: zip is true or false", f"found {shown(value)}")
                continue
            if field not in Sampling.model_fields:
                raise _unknown(place, "sampling field", field, [*Sampling.model_fields, ZIP])
            for each in value if isinstance(value, list) else [value]:
                _check_value(suite_file, (glob, field), each, place)


def _check_value(suite_file: SuiteFile, key: tuple[str, str], value: Any, place: str) -> None:
    """Refuses what is neither a mapping nor a word for one where a mapping belongs."""
    glob, field = key
    if field not in NESTED or value == NATIVE or (field == "guidance" and any(value is word for word in OFF)):
        return
    if not isinstance(value, dict):
        known = "a mapping, native or off" if field == "guidance" else "a mapping"
        raise ConfigError(
            f"{place}: {field} is {known}", f"found {shown(value)}", "for instance guidance: {scale: 2.0}"
        )
    for name in value if field == "guidance" else ():
        if name not in Guidance.model_fields:
            place = where(suite_file, ("sampling", glob, field, name))
            raise _unknown(place, "guidance field", str(name), Guidance.model_fields)


def resolve_sampling(card: Card, suite_file: SuiteFile) -> list[Resolved]:
    """Native sampling of `card` with every matching override of the suite applied: one, or each setting of a sweep.

    A setting that two places of a sweep have in common comes once, at the first of them.
    """
    found: dict[str, Resolved] = {}
    for point in points(card, suite_file):
        resolved = _resolved(card, suite_file, point)
        found.setdefault(canonical_json(resolved.sampling.plain()), resolved)
    return list(found.values())


def _resolved(card: Card, suite_file: SuiteFile, point: Point) -> Resolved:
    native = card.native.plain()
    origins = {name: "card" if name in card.native.model_fields_set else "default" for name in Sampling.model_fields}
    given = card.native.guidance.model_fields_set
    origins |= {f"guidance.{name}": "card" if name in given else "default" for name in Guidance.model_fields}
    for change in point.changes:
        if "." not in change.field:  # a value as a whole: its parts have no origin of their own
            origins = {name: place for name, place in origins.items() if not name.startswith(f"{change.field}.")}
        origins[change.field] = change.place
    try:
        sampling = Sampling.model_validate(applied(card, point))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        last = point.changes[-1].place if point.changes else suite_file.path
        place = origins.get(name) or origins.get(str(first["loc"][0]), last) if first["loc"] else last
        raise ConfigError(
            f"{place}: sampling of {card.name}: {name}: {said(first)}",
            f"found {shown(first.get('input'))}",
            HOW_OFF.get(name, ""),
        ) from error
    return Resolved(sampling, origins, _unsupported(card, native, sampling), dict(point.at))


def _unsupported(card: Card, native: dict[str, Any], sampling: Sampling) -> str:
    asked = sampling.plain()
    fields = [name for name in asked if name != "extra" and asked[name] != native[name] and name not in card.supports]
    knobs = [name for name in asked["extra"] if name not in card.extra]
    problems = []
    if fields:
        problems.append(f"it does not honour {', '.join(fields)}")
    if knobs:
        accepted = f"accepts {', '.join(sorted(card.extra))}" if card.extra else "accepts none"
        problems.append(f"it has no knob {', '.join(knobs)} ({accepted})")
    others = card.refused(sampling)
    if others:
        problems.append(f"it does not honour {', '.join(others)}")
    return f"{card.name}: {'; '.join(problems)}" if problems else ""
