"""Objects: what a tokenizer keeps of small things and faces, inside boxes around them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ...metrics.faces import WEIGHTS
from ...spec.task import Data, Effort, MetricInfo, Pick, Rates, TaskDefinition, TaskSpec
from ...spec.unit import cut

PACKAGED = 21
"""Windows of packaged photographs."""


class Objects(TaskSpec):
    """Tokenizers: errors of reconstructions inside boxes around objects, by size, and likeness of faces."""

    task: Literal["objects"] = "objects"
    """Name of the task."""
    images: str | None = None
    """Images with objects, as `arbench score` reads them, of one size that the tokenizer takes; null: packaged
    photographs, each object from near and far."""
    boxes: str | None = None
    """CSV or JSON file with image, x, y, width, height and perhaps label of boxes in `images`; faces are labelled
    face."""
    pictures: int | None = Field(default=PACKAGED, ge=1)
    """Images, from the start, null: all of `images`; or windows of the packaged photographs."""
    size: int | None = Field(default=None, ge=16)
    """Side of the packaged photographs in pixels; null: the tokenizer's own."""
    batch: int = Field(default=64, ge=1)
    """Images at once; no result depends on it."""
    show: int = Field(default=8, ge=0)
    """The first `show` images with boxes are kept for the report."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.images is None) != (self.boxes is None):
            raise ValueError(f"{'boxes' if self.images is None else 'images'}: images and boxes are given together")
        if self.images is not None and self.size is not None:
            raise ValueError("size: it is that of the packaged photographs, and images are given")
        if self.images is None and self.pictures is None:
            raise ValueError("pictures: null is for images of your own; it is a number without them")
        return self


def _data(spec: Objects) -> tuple[Data, ...]:
    if spec.images is None or spec.boxes is None:
        return ()
    return Data(spec.images), Data(spec.boxes, what="file")


def _effort(spec: Objects, rates: Rates) -> Effort:
    return Effort((spec.pictures or 0) * rates.image, spec.batch)


TASK = TaskDefinition(
    name="objects",
    spec=Objects,
    work="arbench.tasks.objects.work:ObjectsWork",
    version=1,
    kinds=frozenset({"tokenizer"}),
    group="Objects",
    metrics=(
        MetricInfo("box-error", "levels", "lower", "root mean square error inside boxes around objects"),
        MetricInfo("box-psnr", "dB", "higher", "PSNR inside a box, mean over boxes", column=False),
        MetricInfo("outside-error", "levels", "lower", "root mean square error outside of all boxes", column=False),
        MetricInfo("face-similarity", "", "higher", "cosine of a face's embedding before and after"),
    ),
    summary=(Pick("box-error"),),
    units=lambda spec: cut(spec.pictures),
    effort=_effort,
    data=_data,
    counted="pictures",
    weights=lambda spec: {WEIGHTS: "objects face-similarity"},
    transport=frozenset({"batch", "show"}),
)
