"""Systems: all that arbench knows of a folder of adapters before it imports torch."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Frozen
from .card import Card

Component = Literal["tokenizer", "generator"]


Pattern = str
"""A regular expression for a whole key. Compiled when it is used: hundreds are listed."""
ObjectPath = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
""" "module:attribute", imported when it is needed."""


class StateDict(Frozen):
    """How a state dict is recognised, so that an error about a wrong file can say what the file is.

    Each of `has` matches at least one key, none of `lacks` matches any. The order of systems decides nothing: where
    two descriptions fit, both are named, so a description should exclude the files of other systems known to fit.
    """

    what: str
    """In words, with an article: "a LlamaGen generator"."""
    has: tuple[Pattern, ...] = Field(min_length=1)
    lacks: tuple[Pattern, ...] = ()

    def check_patterns(self) -> None:
        """Raises ValueError for one that is not a regular expression."""
        for pattern in (*self.has, *self.lacks):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None

    def fits(self, keys: Collection[str]) -> bool:
        def found(pattern: str) -> bool:
            matches = re.compile(pattern).fullmatch
            return any(matches(key) for key in keys)

        return all(found(pattern) for pattern in self.has) and not any(found(pattern) for pattern in self.lacks)


class System(Frozen):
    """A system: the adapters that share a folder, and what else is to be known of them by name.

    Its package exports one of these as `SYSTEM` and imports no torch to do so. Only `name` and `cards` are needed.
    """

    name: str
    """The `adapter` of its goldens. A tokenizer has the name of the system that it was published with."""
    cards: tuple[Card, ...]
    """In the order in which they are listed."""
    files: tuple[StateDict, ...] = ()
    """What its state dicts look like: one entry for the official names, one for the names of our networks."""
    replays: dict[Component, ObjectPath] = Field(default_factory=dict)
    """Component of a golden -> the function (config, state, tokenizer) that builds its replay, see `arbench.parity`."""
    bridges: dict[str, ObjectPath] = Field(default_factory=dict)
    """Prefix -> the function that gives the card of `prefix:REST` from REST, for adapters that are not listed."""
    training: dict[str, ObjectPath] = Field(default_factory=dict)
    """Card name -> the recipe that `python -m arbench.adapters.train NAME` follows."""

    @model_validator(mode="after")
    def _trains_what_it_has(self) -> System:
        strange = sorted(self.training.keys() - {card.name for card in self.cards})
        if strange:
            raise ValueError(f"no card for the training of {', '.join(strange)}")
        return self
