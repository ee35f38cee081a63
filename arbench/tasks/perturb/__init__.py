"""Perturb: what a decoder makes of codes that are a little wrong, as those that a generator draws are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...evaluate.question import Question
from ...spec.task import Data, MetricInfo, Pick, TaskDefinition
from ...spec.unit import cut
from ..compared import IN_KEY, Compared, effort, weights_needed


class Perturb(Compared):
    """Tokenizers: images decoded from perturbed codes, or between nearest latents, against the originals."""

    task: Literal["perturb"] = "perturb"
    """Name of the task."""
    data: str = "mnist5k/heldout"
    """Images, as `arbench score` reads them."""
    conventions: tuple[str, ...] = ("offline-pairs",)
    """Whose numbers to report, all from one pass: see `arbench ls conventions`."""
    n: int | None = Field(default=500, ge=1)
    """Images, from the start of the source; null: all. The nearest latents are looked for among them."""
    share: float = Field(default=0.4, gt=0, le=1)
    """Of ids, the share of an image's that become others, drawn evenly from all."""
    batch: int = Field(default=64, ge=1)
    """Images at once; no result depends on it."""
    show: int = Field(default=8, ge=0)
    """The first `show` images are kept for the report."""

    def question(self, *, paired: bool = True, kind: str | None = None, split: str | None = None) -> Question:
        return super().question(paired=True)

    @property
    def images(self) -> Data:
        return Data(self.data, self.crop, self.size)


TASK = TaskDefinition(
    name="perturb",
    spec=Perturb,
    work="arbench.tasks.perturb.work:PerturbWork",
    version=1,
    kinds=frozenset({"tokenizer"}),
    group="Perturbed codes",
    metrics=(
        MetricInfo("rfid", "", "lower", "Frechet distance of Inception features to the originals"),
        MetricInfo("frechet", "", "lower", "Frechet distance of other features to the originals, which is not rFID"),
        MetricInfo("class-agreement", "fraction", "higher", "share classified as their original's class"),
        MetricInfo("feature-distance", "", "lower", "1 - cosine of the features of an image and what is decoded"),
        MetricInfo("psnr", "dB", "higher", "peak signal-to-noise ratio, per image, then the mean", column=False),
        MetricInfo("ssim", "", "higher", "structural similarity, per image, then the mean", column=False),
        MetricInfo("l1", "", "lower", "mean absolute difference of pixels in [0, 1]", column=False),
    ),
    summary=(Pick("rfid"), Pick("frechet"), Pick("class-agreement")),
    units=lambda spec: cut(spec.n),
    effort=lambda spec, rates: effort(spec, spec.n, spec.batch, rates),
    data=lambda spec: (spec.images,),
    counted="n",
    weights=weights_needed,
    transport=frozenset({"batch", "show"}),
    in_key=IN_KEY | {"data", "share"},
)
