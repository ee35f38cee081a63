"""Predict: how well a small network that is the same for all tokenizers learns to predict one's codes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...spec.task import Effort, MetricInfo, Pick, Rates, TaskDefinition
from ...spec.unit import cut
from ..on_images import OnImages

STEP = 2e9
"""Operations of a training step, about."""
LEAST = 20
"""Images below which nothing is trained: a fifth is held out, and a fifth of the rest chooses the step."""


class Predict(OnImages):
    """Tokenizers: bits that a small autoregressive network, trained on the codes, needs for those of other images."""

    task: Literal["predict"] = "predict"
    """Name of the task."""
    n: int | None = Field(default=500, ge=1)
    """Images, from the start of the source; null: all. The last fifth is held out, and is what numbers are of."""
    steps: int = Field(default=300, ge=1)
    """Training steps, each of 4096 digits (ids of more than 256 codes are several): the same for all tokenizers."""


def _effort(spec: Predict, rates: Rates) -> Effort:
    return Effort((spec.n or 0) * rates.image + spec.steps * STEP / rates.flops, spec.batch)


TASK = TaskDefinition(
    name="predict",
    spec=Predict,
    work="arbench.tasks.predict.work:PredictWork",
    version=2,
    kinds=frozenset({"tokenizer"}),
    group="Prediction",
    metrics=(
        MetricInfo("probe-share", "fraction", "lower", "bits of a code over log2(codes)"),
        MetricInfo("probe-bits", "bits", None, "of a code, for a small network trained on the codes"),
        MetricInfo("probe-image-bits", "bits", "lower", "of an image, likewise"),
        MetricInfo("probe-pixel-bits", "bits", "lower", "of a pixel, likewise", column=False),
    ),
    summary=(Pick("probe-image-bits"), Pick("probe-share")),
    units=lambda spec: cut(spec.n),
    effort=_effort,
    data=lambda spec: (spec.images,),
    counted="n",
    transport=frozenset({"batch"}),
)
