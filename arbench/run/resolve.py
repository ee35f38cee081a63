"""The sampling of an adapter under a suite: the card's native values, changed field by field, with origins."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigError, closest
from ..spec.card import Card
from ..spec.sampling import HOW_OFF, Guidance, Sampling
from ..spec.suite_file import Location, SuiteFile


@dataclass(frozen=True)
class Resolved:
    """`problem` says what the adapter does not support, "" if it supports all; `origins` by dotted field."""

    sampling: Sampling
    origins: dict[str, str]
    problem: str


def where(suite_file: SuiteFile, location: Location) -> str:
    """ "file:line" (or "--set ...") of the value at `location`, or of the closest thing around it."""
    place = location
    while place and place not in suite_file.origins:
        place = place[:-1]
    return suite_file.origins.get(place, suite_file.path)


def _unknown(place: str, what: str, name: str, known: Iterable[str]) -> ConfigError:
    names = sorted(known)
    close = closest(name, names)
    why = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}"
    return ConfigError(f"{place}: unknown {what} {name!r}", why, "arbench show SUITE --resolved lists every value")


def check_overrides(suite_file: SuiteFile, cards: Iterable[Card]) -> None:
    """Refuses unknown fields and globs that no known generator matches, also where nothing planned uses them."""
    generators = [card.name for card in cards if card.kind == "generator"]
    for glob, fields in suite_file.suite.sampling.items():
        if not any(fnmatch.fnmatchcase(name, glob) for name in generators):
            raise _unknown(where(suite_file, ("sampling", glob)), "generator in sampling:", glob, generators)
        for field, value in fields.items():
            place = where(suite_file, ("sampling", glob, field))
            if field not in Sampling.model_fields:
                raise _unknown(place, "sampling field", field, Sampling.model_fields)
            if field in ("guidance", "extra") and not isinstance(value, dict):
                raise ConfigError(
                    f"{place}: {field} is a mapping", f"found {value!r:.60}", "for instance guidance: {scale: 2.0}"
                )
            if field == "guidance":
                for name in value:
                    if name not in Guidance.model_fields:
                        place = where(suite_file, ("sampling", glob, field, name))
                        raise _unknown(place, "guidance field", str(name), Guidance.model_fields)


def resolve_sampling(card: Card, suite_file: SuiteFile) -> Resolved:
    """Native sampling of `card` with every matching override of the suite applied, later ones winning."""
    native = card.native.plain()
    values: dict[str, Any] = card.native.plain()
    origins = {name: "card" if name in card.native.model_fields_set else "default" for name in Sampling.model_fields}
    given = card.native.guidance.model_fields_set
    origins |= {f"guidance.{name}": "card" if name in given else "default" for name in Guidance.model_fields}
    last = suite_file.path
    for glob, fields in suite_file.suite.sampling.items():
        if not fnmatch.fnmatchcase(card.name, glob):
            continue
        for field, value in fields.items():
            place = last = where(suite_file, ("sampling", glob, field))
            if isinstance(value, dict) and field in ("guidance", "extra"):
                values[field] = {**values[field], **value}
                for name in value:
                    origins[f"{field}.{name}"] = where(suite_file, ("sampling", glob, field, name))
            else:
                values[field] = value
                origins[field] = place
    try:
        sampling = Sampling.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        place = origins.get(name) or origins.get(str(first["loc"][0]), last) if first["loc"] else last
        raise ConfigError(
            f"{place}: sampling of {card.name}: {name}: {first['msg']}",
            f"found {first.get('input')!r:.60}",
            HOW_OFF.get(name, ""),
        ) from error
    return Resolved(sampling, origins, _unsupported(card, native, sampling))


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
