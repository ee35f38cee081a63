"""Likelihood: how well a generator that gives scores predicts the codes of held-out images, given their class."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ...spec.card import Card
from ...spec.task import Data, Effort, MetricInfo, Pick, Rates, TaskDefinition, TaskSpec
from ...spec.unit import cut
from ..on_images import Crop, check_crop


class Likelihood(TaskSpec):
    """Generators with scores: the log-likelihood of the codes of held-out images."""

    task: Literal["likelihood"] = "likelihood"
    """Name of the task."""
    data: str = "mnist5k/heldout"
    """Images, as `arbench score` reads them, with classes."""
    crop: Crop = "none"
    """How the images are cropped, for instance adm-center-crop-v1; needs `size`."""
    size: int | None = Field(default=None, ge=1)
    """Side of the square that `crop` makes, in pixels."""
    n: int | None = Field(default=None, ge=1)
    """Images, from the start of the source; null: all."""
    batch: int = Field(default=16, ge=1)
    """Images at once; no result depends on it."""

    @model_validator(mode="after")
    def _sized(self) -> Self:
        check_crop(self.crop, self.size)
        return self


def _unable(card: Card, spec: Likelihood) -> str:
    if card.tokens is not None and card.tokens.kind == "continuous":
        return "its tokens are continuous and drawn by diffusion: they have no tractable likelihood"
    if "scores" not in card.offers:
        return "it gives no teacher-forced scores (its card does not offer `scores`)"
    if card.condition == "text":
        return "it is conditioned on text, and the images of likelihood have classes"
    return ""


def _effort(spec: Likelihood, rates: Rates) -> Effort:
    return Effort(2 * (spec.n or 0) * rates.image, spec.batch)  # of the right class and of another


TASK = TaskDefinition(
    name="likelihood",
    spec=Likelihood,
    work="arbench.tasks.likelihood.work:LikelihoodWork",
    version=2,
    kinds=frozenset({"generator"}),
    group="Likelihood",
    metrics=(
        MetricInfo("nats-per-token", "nats", "lower", "-log p of a code given those before it and the class"),
        MetricInfo("bits-per-image", "bits", "lower", "of all codes of an image", column=False),
        MetricInfo("bits-per-dimension", "bits", "lower", "bits of the codes over 3 H W", column=False),
        MetricInfo(
            "nats-per-token-wrong-class", "nats", "lower", "the same given the class after the image's", column=False
        ),
        MetricInfo("nats-per-token-gap", "nats", "higher", "that less the image's own", column=False),
    ),
    summary=(Pick("nats-per-token"),),
    units=lambda spec: cut(spec.n),
    effort=_effort,
    data=lambda spec: (Data(spec.data, spec.crop, spec.size),),
    counted="n",
    needs="scores",
    unable=_unable,
    transport=frozenset({"batch"}),
)
