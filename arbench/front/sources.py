"""What the functions take: images as arrays, objects or names, names one by one or with commas, weights by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import registry
from ..data.reading import Source
from ..errors import UnknownName, UsageError
from ..features.weight_files import parse_given, refuse_missing
from .images import Images

Names = str | Sequence[str]
WeightFiles = Mapping[str, str | Path]


def as_source(images: Any) -> Source:
    """`images` as the readers know them: a name or path as text, `Images` as an array with its labels."""
    if isinstance(images, Path):
        return str(images)
    return images.source() if isinstance(images, Images) else images


def names(given: Names) -> tuple[str, ...]:
    """("adm", "offline") of these, or of "adm,offline"."""
    parts = given.split(",") if isinstance(given, str) else given
    return tuple(name.strip() for name in parts if name.strip())


def given_weights(weights: WeightFiles | None) -> dict[str, str]:
    """Weight files by the name of an adapter or a feature network. Raises `UnknownName`, and `InputError` for a file
    that is not there."""
    given = parse_given([f"{name}={path}" for name, path in (weights or {}).items()], registry.cards())
    refuse_missing(given)
    return given


def one_of(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UnknownName(f"value of {option}", value, known, f"{option}={known[0]!r}")


def at_least(option: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UsageError(f"{option} is {value}", f"the least is {least}", f"{option}={least}")
