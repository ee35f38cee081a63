"""What is asked about a set of samples, and what of it the weights that are here allow. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import UsageError
from ..features import recipes
from ..features.weight_files import WeightFile, Weights
from ..metrics.pairs.backbones import NEEDS
from . import conventions
from .definition import Definition


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a set of samples; all of it decides the numbers.

    conventions: names of them. metrics: globs, all if empty. paired: each sample is a reconstruction of the reference
    image at its place. crop, size: how the reference's images are prepared. kind: format of a file of statistics that
    does not state it. split: which one the reference is, "train" or "val". error: of the Frechet distances, "delta" or
    "jackknife". subset_size: of kernel distances over subsets, None for the convention's own.
    """

    conventions: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    paired: bool = False
    crop: str = "none"
    size: int | None = None
    kind: str | None = None
    split: str | None = None
    error: str = "delta"
    subset_size: int | None = None

    @property
    def task(self) -> Literal["generate", "reconstruct"]:
        return "reconstruct" if self.paired else "generate"

    def definitions(self) -> list[Definition]:
        """What is wanted. Raises `UnknownName`; `UsageError` if all of it is of pairs, and there are none."""
        found = conventions.definitions(conventions.select(self.conventions), self.metrics)
        if not self.paired and found and all(item.paired for item in found):
            raise UsageError(
                "these metrics compare pairs of images",
                "samples and reference were not said to be pairs",
                "add --paired, or use them in a `reconstruct` task",
            )
        return found


def weights_of(definition: Definition) -> tuple[str, ...]:
    """Registry names of the weights behind a number."""
    if definition.recipe:
        return recipes.find(definition.recipe).weights
    backbone = NEEDS.get((definition.variant or "").partition("@")[0])
    return () if backbone is None else (backbone,)


def available_recipes(needed: Sequence[str], weights: Weights) -> tuple[list[str], dict[str, str]]:
    """Recipes whose weights are here, and for each of the others why its numbers are null, with the next command."""
    found, reasons = [], {}
    for name in needed:
        missing = [weight for weight in recipes.find(name).weights if weights.find(weight) is None]
        if missing:
            names = " ".join(missing)
            reasons[name] = f"no weights of {names}: arbench weights fetch {names}, or --weights {missing[0]}=PATH"
        else:
            found.append(name)
    return found, reasons


def weight_files(wanted: Sequence[Definition], weights: Weights) -> list[WeightFile]:
    """The files behind these numbers, as far as they are here."""
    names = dict.fromkeys(name for definition in wanted for name in weights_of(definition))
    return [file for name in names if (file := weights.find(name)) is not None]


def why_missing(variant: str, weights: Weights) -> str:
    """Why a metric of image pairs cannot be computed, or ""."""
    backbone = NEEDS.get(variant.partition("@")[0])
    if backbone is None or weights.find(backbone) is not None:
        return ""
    return f"no weights of {backbone}: arbench weights fetch {backbone}, or --weights {backbone}=PATH"


def variants_of(wanted: Sequence[Definition]) -> list[str]:
    """The metrics of pixels among them, each once."""
    return list(dict.fromkeys(item.variant for item in wanted if item.variant is not None))
