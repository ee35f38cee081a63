"""What a convention is: a named preset of numbers, each with its estimator, features and settings. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..spec.result import Direction


@dataclass(frozen=True, slots=True)
class Definition:
    """One number of one convention.

    `output` is the "recipe:output" whose vectors it takes, or "" for a metric of pixels; `alone` says that it does not
    depend on the reference. `kind` is a "module:function" from `Rows` to an `Estimate`, called as
    `function(samples, reference, **settings)`, without `reference` if `alone`; or, where numbers share work, the name
    of one of `arbench.evaluate.numbers.ESTIMATORS`.
    """

    metric: str
    convention: str
    kind: str
    output: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""
    direction: Direction | None = "lower"
    what: str = ""
    alone: bool = False

    @property
    def recipe(self) -> str:
        return self.output.partition(":")[0]

    @property
    def paired(self) -> bool:
        """Whether it is of image pairs: from pixels (no `output`), or from the features of both."""
        return self.kind in ("paired", "feature-distance")

    @property
    def variant(self) -> str | None:
        """Of a metric of pixels, its name in `arbench.metrics.pairs.paired.METRICS`, perhaps with "@convention"."""
        return str(self.settings["variant"]) if self.kind == "paired" else None


@dataclass(frozen=True, slots=True)
class Convention:
    """A named preset. `what` says whose numbers it reproduces."""

    name: str
    what: str
    definitions: tuple[Definition, ...]

    @property
    def paired(self) -> bool:
        return any(definition.paired for definition in self.definitions)

    @property
    def recipes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.recipe for item in self.definitions if item.recipe))
