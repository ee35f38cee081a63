"""What the tasks that compare sets of images share: fields of a suite, features of a unit, numbers of a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from ..data.digest import one_size, opened
from ..data.reading import Reading, is_statistics
from ..errors import ArbenchError, counted
from ..evaluate import conventions as known_conventions
from ..evaluate.question import Question, available_recipes, variants_of, weights_of
from ..features.feature_folder import PAIRS
from ..features.feature_set import Features
from ..features.recipes import find
from ..features.unit_features import CONVENTION, FEATURES, PROMPTS, VALUE, UnitFeatures, UnitFile, recipes_in
from ..images import digests
from ..metrics.sets.kernel_subsets import SUBSETS
from ..spec.card import Card
from ..spec.cell import Cell
from ..spec.task import Data, Effort, Rates, TaskSpec
from ..spec.unit import Unit
from .on_images import Crop, check_crop

if TYPE_CHECKING:
    from ..evaluate.definition import Definition
    from ..evaluate.evaluation import Evaluation
    from ..evaluate.known_reference import KnownReference
    from ..features.extract import Extractors
    from .base import Arrays, Context, Stored

IN_KEY = frozenset({"conventions", "metrics", "crop", "size", "error"})
"""Fields of `Compared` that the key of a number says (see `TaskDefinition.in_key`), with its error bar."""


class Compared(TaskSpec):
    """What decides numbers of samples against a set of images, as fields of a task."""

    conventions: tuple[str, ...] = ("offline",)
    """Whose numbers to report, all from one sampling: see `arbench ls conventions`."""
    metrics: tuple[str, ...] = ()
    """Only metrics that match one of these globs; empty: all of the conventions."""
    crop: Crop = "none"
    """How the images that are read are cropped, for instance adm-center-crop-v1; needs `size`."""
    size: int | None = Field(default=None, ge=1)
    """Side of the square that `crop` makes, in pixels."""
    mode: Literal["parity", "fast"] = "parity"
    """How the feature networks compute. parity: float32, as the reference tools. fast: folded, TF32 or bf16 on CUDA."""
    error: Literal["delta", "jackknife"] = "delta"
    """Error bar of the Frechet distances."""
    kid_subset_size: int | None = Field(default=None, ge=2)
    """Images in a subset, of kernel distances over subsets; null: the convention's own number."""

    @field_validator("conventions", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        names = [value] if isinstance(value, str) else value
        if isinstance(names, list | tuple):
            try:
                known_conventions.select([str(name) for name in names])
            except ArbenchError as error:
                raise ValueError("; ".join(part for part in (error.what, error.why) if part)) from error
            return tuple(names)
        return value

    @model_validator(mode="after")
    def _sized(self) -> Self:
        check_crop(self.crop, self.size)
        try:
            self.question().definitions()
        except ArbenchError as error:
            raise ValueError("; ".join(part for part in (error.what, error.why) if part)) from error
        return self

    def question(self, *, paired: bool = False, kind: str | None = None, split: str | None = None) -> Question:
        return Question(
            self.conventions,
            self.metrics,
            paired,
            self.crop,
            self.size,
            kind,
            split,
            self.error,
            self.kid_subset_size,
        )


def weights_needed(spec: Compared) -> dict[str, str]:
    """Name of the weights of a feature network -> the numbers that are null without them."""
    needed: dict[str, list[str]] = {}
    for item in spec.question().definitions():
        for name in weights_of(item):
            needed.setdefault(name, []).append(f"{item.convention} {item.metric}")
    return {name: ", ".join(numbers) for name, numbers in needed.items()}


def forewarnings(card: Card, spec: Compared, n: int, data: Data | None, *, prompts: bool = False) -> list[str]:
    """What is known of samples and reference before the run, and would be a flag or a null value after it.

    `data` is the reference, if there is one; `prompts` says whether samples are of such.
    """
    found, wanted = [], spec.question().definitions()
    scores = [] if prompts else [item for item in wanted if item.kind == "clip-score"]
    for why, null in (
        ("no prompts are given", scores),
        ("no reference is given", [item for item in wanted if data is None and not item.alone]),
    ):
        if null:
            names = ", ".join(f"{item.convention} {item.metric}" for item in null)
            found.append(f"{spec.task}: {why}, so these will be null: {names}")
    if spec.kid_subset_size is not None and all(item.kind != "kid-subsets" for item in wanted):
        found.append(f"{spec.task}: kid_subset_size changes nothing: no metric asked for is over subsets")
    for item in wanted:
        size = spec.kid_subset_size or (SUBSETS[str(item.settings["preset"])].size if item.kind == "kid-subsets" else 0)
        if item.kind == "kid-subsets" and n < size:
            why = f"{counted(n, 'sample')}, subsets of {size}"
            found.append(f"{spec.task}: {item.convention} {item.metric} will be null: {why}")
    if data is None or is_statistics(data.source):
        return found
    source = opened(data)
    side = one_size(source)
    if side != (card.resolution, card.resolution):
        found.append(
            f"{spec.task}: {card.name} makes {card.resolution} x {card.resolution} images, those of {data.source}"
            f" {described_size(side)}: numbers will be flagged (crop and size bring them to one size)"
        )
    classes = None if source.labels is None else len(np.unique(source.labels))
    if card.condition == "class" and classes is not None and card.classes is not None and classes != card.classes:
        found.append(f"{spec.task}: {card.name} has {card.classes} classes, and {data.source} has {classes}")
    return found


def described_size(size: tuple[int, int] | None) -> str:
    """What images of one (height, width), or of several, are: "are 640 x 480"."""
    return "differ in size" if size is None else f"are {size[1]} x {size[0]}"


def effort(spec: Compared, n: int, batch: int, rates: Rates, images: float = 1.0) -> Effort:
    """Of `n` images that are made (`images` times the work of one), described by every network, and kept."""
    needed = [find(name) for name in known_conventions.needed_recipes(spec.question().definitions())]
    needed = [recipe for recipe in needed if not rates.missing & set(recipe.weights)]
    described = sum(recipe.gflop for recipe in needed) * 1e9 / rates.flops
    features = sum(4 * length for recipe in needed for length in recipe.outputs.values())
    kept = n * rates.pixels if rates.kept is None else min(n * rates.pixels, rates.kept)
    return Effort(n * (images * rates.image + described), batch, kept + n * features)


def keeps_images(cell: Cell, unit: Unit, image_bytes: int, show: int) -> bool:
    """Whether a unit's images are stored: those that are shown, and all up to the size that the settings state."""
    limit = cell.settings.keep_images
    return unit.start < show or limit is None or unit.stop * image_bytes <= limit * 1_000_000


def described(
    images: NDArray[np.uint8],
    ids: Sequence[int],
    labels: NDArray[np.int64],
    keys: Sequence[str],
    question: Question,
    mode: Literal["parity", "fast"],
    context: Context,
    originals: NDArray[np.uint8] | None = None,
) -> Arrays:
    """What a unit stores of its images (n, 3, H, W) besides the pixels: features by every recipe that the conventions
    need and the weights here allow, and, of reconstructions, metrics of each image and its original."""
    extractors, wanted = context.extractors(mode), question.definitions()
    available, _ = available_recipes(known_conventions.needed_recipes(wanted), extractors.weights)
    arrays: Arrays = {
        "sample_ids": np.array(ids, dtype=np.int64),
        "labels": labels,
        "digests": np.array(digests(images)),
        "keys": np.array(list(keys)),
        "size": np.array(images.shape[2:], dtype=np.int64),
    }
    pictures = list(images)
    for recipe in available:
        extractor = extractors.get(recipe)
        for output, rows in extractor(pictures).items():
            arrays[f"{FEATURES}{recipe}:{output}"] = rows
            arrays[f"{CONVENTION}{recipe}:{output}"] = np.array(extractor.convention)
    if originals is not None:
        for name, values in context.pair_metrics(variants_of(wanted))(images, originals).items():
            arrays[f"{VALUE}{name}"] = values
    return arrays


def stored_features(name: str, units: Sequence[Stored], *, paired: bool) -> dict[str, Features]:
    """The features that a cell's units hold, by recipe; of reconstructions, metrics of pairs under "pairs"."""
    files = [unit for unit in units if isinstance(unit, UnitFile)]
    assert len(files) == len(units), "units are read from disk"
    found: dict[str, Features] = {recipe: UnitFeatures(name, files, recipe) for recipe in recipes_in(files[0])}
    if paired:
        found[PAIRS] = UnitFeatures(name, files)
    return found


@dataclass(frozen=True)
class Sides:
    """The two sets of a cell with their features, and what is asked about them.

    `held` are the recipes that the samples have; `reasons` says of the others why not. `reading` is the reference's.
    """

    name: str
    question: Question
    reading: Reading
    extractors: Extractors
    samples: Mapping[str, Features]
    reference: KnownReference | None
    held: Sequence[str]
    reasons: Mapping[str, str]
    prompts: Sequence[str] = ()

    @property
    def wanted(self) -> list[Definition]:
        return self.question.definitions()

    def evaluated(self, device: str) -> Evaluation:
        """All their numbers."""
        from ..evaluate.evaluation import evaluate

        return evaluate(
            self.wanted,
            self.samples,
            self.reference,
            self.question,
            self.extractors.weights,
            reasons=self.reasons,
            name=self.name,
            device=device,
            prompts=self.prompts,
        )


def sides(
    name: str,
    units: Sequence[Stored],
    question: Question,
    source: str | None,
    context: Context,
    *,
    mode: Literal["parity", "fast"],
    limit: int | None,
) -> Sides:
    """A cell's units, and the images (or statistics) of `source`, if there is one."""
    from ..evaluate.evaluation import open_reference

    extractors = context.extractors(mode)
    samples = stored_features(name, units, paired=question.paired)
    needed = known_conventions.needed_recipes(question.definitions())
    _, reasons = available_recipes(needed, extractors.weights)
    held = [recipe for recipe in needed if recipe in samples]
    reasons |= {
        recipe: f"the units hold no features of {recipe}" for recipe in needed if recipe not in (*held, *reasons)
    }
    reading = Reading(limit=limit, crop=question.crop, size=question.size)
    reference = None
    if source is not None:
        reference = open_reference(
            source,
            question,
            held,
            extractors,
            reading=reading,
            progress=lambda what, done, count: context.progress(done),
        )
    return Sides(name, question, reading, extractors, samples, reference, held, reasons, stored_prompts(units))


def evaluated(
    name: str,
    units: Sequence[Stored],
    question: Question,
    source: str,
    context: Context,
    *,
    mode: Literal["parity", "fast"],
    limit: int | None,
) -> Evaluation:
    """The numbers of a cell's units against the images (or statistics) of `source`."""
    return sides(name, units, question, source, context, mode=mode, limit=limit).evaluated(context.device)


def stored_prompts(units: Sequence[Stored]) -> tuple[str, ...]:
    """What the samples of a cell's units were drawn from, in order; empty where that is not text."""
    return tuple(str(text) for unit in units if PROMPTS in unit for text in unit[PROMPTS])
