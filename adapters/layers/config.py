"""Hyper-parameters by the official code's names, as a frozen dataclass."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from arbench.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)
else:
    T = TypeVar("T")


def from_upstream(kind: type[T], config: Mapping[str, Any], unused: Collection[str] = ()) -> T:
    """`kind` from a card's or golden's config. Names in `unused` are known to matter for training only.

    Raises ConfigError for any other name: a hyper-parameter that is not understood must not be passed over.
    """
    known = {field.name for field in fields(kind)}
    strange = sorted(config.keys() - known - set(unused))
    if strange:
        raise ConfigError(
            f"unknown hyper-parameters: {', '.join(strange)}",
            f"known: {', '.join(sorted(known))}",
            "use the official code's names",
        )
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    return kind(**{name: value for name, value in values.items() if name in known})
