"""Generate: sample by class or prompt from per-sample seeds, and compare with a reference under every convention."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ...data.digest import count_of, one_size, opened
from ...data.prompts import why_unfit
from ...data.reading import is_statistics
from ...evaluate.question import Question
from ...spec.card import Card
from ...spec.task import Data, Effort, MetricInfo, Pick, Rates, TaskDefinition
from ...spec.unit import cut
from ..compared import IN_KEY, Compared, described_size, effort, forewarnings, weights_needed


class Generate(Compared):
    """Generators: sample, and compare with a reference set.

    Sample id i has class `i % classes`; a text-to-image model draws line i of `prompts`, each line once.
    """

    task: Literal["generate"] = "generate"
    """Name of the task."""
    reference: str | None = "mnist5k/heldout"
    """Images, as `arbench score` reads them, a file of reference statistics, or a name of `arbench ls references`;
    null, which only `prompts` allow: no distances."""
    prompts: str | None = None
    """For text-to-image models, one prompt per line: the list that `arbench captions` writes, or texts for models that
    read text themselves."""
    kind: str | None = None
    """Format of a file of statistics, if it does not state it: "adm", ..."""
    split: Literal["train", "val"] | None = None
    """Which split the reference is, if its name does not tell."""
    floor: bool = False
    """Also each distance to the reference as the generator's own tokenizer reconstructs it, and of that to the
    reference. Takes the whole reference through the tokenizer, once for all generators over it."""
    conventions: tuple[str, ...] = ("offline", "adm")
    """Whose numbers to report, all from one sampling: see `arbench ls conventions`."""
    n: int | None = Field(default=1000, ge=1, le=100_000_000)
    """Samples; null, which only `prompts` allow and which is then the default: one for each prompt."""
    batch: int = Field(default=64, ge=1)
    """Samples at once; no result depends on it."""
    show: int = Field(default=40, ge=0)
    """The first `show` sample ids are kept for the report's grid."""

    @model_validator(mode="before")
    @classmethod
    def _as_many_as_prompts(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("prompts") is not None:
            return {"n": None, **values}
        return values

    @model_validator(mode="after")
    def _has_conditions(self) -> Self:
        if self.prompts is None and self.n is None:
            raise ValueError("n: null is one sample for each prompt, and no prompts are given")
        if self.prompts is None and self.reference is None:
            raise ValueError("reference: null is for samples of prompts, and no prompts are given")
        for name in ("kind", "split") if self.reference is None else ():
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: it is that of a reference, and the reference is null")
        return self

    @property
    def count(self) -> int:
        """`n`, resolved."""
        assert self.n is not None  # the plan has counted the prompts
        return self.n

    def question(self, *, paired: bool = False, kind: str | None = None, split: str | None = None) -> Question:
        return super().question(kind=self.kind, split=self.split)


def _images(spec: Generate) -> Data | None:
    return None if spec.reference is None else Data(spec.reference, spec.crop, spec.size, mixed=True)


def _data(spec: Generate) -> tuple[Data, ...]:
    found = [] if spec.prompts is None else [Data(spec.prompts, what="prompts"), Data(spec.prompts, what="captions")]
    reference = _images(spec)
    return (*found, *([] if reference is None else [reference]))


def _unable(card: Card, spec: Generate) -> str:
    """Why a model cannot draw what is asked for: prompts are for models of text, and these need them."""
    if card.condition != "text":
        return "" if spec.prompts is None else f"its condition is {card.condition}, and this task draws prompts"
    if spec.prompts is None:
        made = "" if card.captions is None else f" (made by: arbench captions {card.name} PROMPTS --encoder ENCODER)"
        return f"it makes images of prompts: generate: {{prompts: FILE}}{made}"
    return why_unfit(card, Path(spec.prompts))


def why_no_floor(card: Card, spec: Generate) -> str:
    """Why there are no reconstructions of the reference to compare with, or "" if there are."""
    images = _images(spec)
    if card.tokenizer is None:
        return f"{card.name} has no tokenizer that could reconstruct the reference"
    if images is None:
        return "no reference is given that could be reconstructed"
    if is_statistics(images.source):
        return f"{images.source} holds statistics, and reconstructions are made of images"
    size = one_size(opened(images))
    if size != (card.resolution, card.resolution):
        side = card.resolution
        return f"{card.tokenizer} takes {side} x {side} images, those of {images.source} {described_size(size)}"
    return ""


def _notes(card: Card, spec: Generate) -> list[str]:
    found = forewarnings(card, spec, spec.count, _images(spec), prompts=spec.prompts is not None)
    why = why_no_floor(card, spec) if spec.floor else ""
    return [*found, f"{spec.task}: distances to reconstructions will be null: {why}"] if why else found


def _effort(spec: Generate, rates: Rates) -> Effort:
    found, images = effort(spec, spec.count, spec.batch, rates), _images(spec)
    if not spec.floor or images is None or is_statistics(images.source) or not rates.coded:
        return found
    beside = effort(spec, count_of(images), spec.batch, replace(rates, image=rates.coded, kept=0))
    return replace(found, seconds=found.seconds + beside.seconds, disk_bytes=found.disk_bytes + beside.disk_bytes)


TASK = TaskDefinition(
    name="generate",
    spec=Generate,
    work="arbench.tasks.generate.work:GenerateWork",
    version=3,
    kinds=frozenset({"generator"}),
    draws=True,
    group="Quality",
    metrics=(
        MetricInfo("fid", "", "lower", "Frechet distance of Inception features, as the convention has it"),
        MetricInfo("sfid", "", "lower", "the same of spatial features"),
        MetricInfo("is", "", "higher", "Inception Score"),
        MetricInfo("frechet", "", "lower", "Frechet distance of other features, which is not FID"),
        MetricInfo("kid", "", "lower", "kernel distance"),
        MetricInfo("precision", "", "higher", "share of samples inside a reference image's k-neighbour ball"),
        MetricInfo("recall", "", "higher", "share of reference images inside a sample's k-neighbour ball"),
        MetricInfo("class-agreement", "fraction", "higher", "share of samples classified as the class asked for"),
        MetricInfo("fid-infinity", "", "lower", "FID extrapolated to infinitely many samples", column=False),
        MetricInfo("frechet-infinity", "", "lower", "the Frechet distance extrapolated likewise", column=False),
        MetricInfo("mind", "", "lower", "sliced Wasserstein distance of the features", column=False),
        MetricInfo("density", "", "higher", "reference balls around a sample, over k", column=False),
        MetricInfo("coverage", "", "higher", "share of reference balls that hold a sample", column=False),
        MetricInfo("auth-pct", "", "higher", "share of samples that are not near-copies", column=False),
        MetricInfo("realism", "", "higher", "mean over samples of radius to distance of a reference", column=False),
        MetricInfo("vendi", "", "higher", "effective number of different samples", column=False),
        MetricInfo("vendi-per-class", "", "higher", "mean over classes of each class's own", column=False),
        MetricInfo(
            "neighbour-agreement", "", "higher", "nearest reference image has the label asked for", column=False
        ),
        MetricInfo("fid-per-class", "", "lower", "mean over classes of each class's own FID", column=False),
        MetricInfo("frechet-per-class", "", "lower", "the same of other features", column=False),
    ),
    summary=(Pick("fid"), Pick("frechet")),
    units=lambda spec: cut(spec.count),
    effort=_effort,
    data=_data,
    counted="n",
    counts="prompts",
    unable=_unable,
    weights=weights_needed,
    notes=_notes,
    transport=frozenset({"batch", "show"}),
    in_key=IN_KEY | {"reference", "kind", "split", "prompts", "floor"},
)
