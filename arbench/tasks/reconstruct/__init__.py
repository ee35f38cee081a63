"""Reconstruct: encode and decode held-out images with a tokenizer, and compare them with the originals."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...evaluate.question import Question
from ...spec.task import Data, MetricInfo, Pick, TaskDefinition
from ...spec.unit import cut
from ..compared import IN_KEY, Compared, effort, weights_needed


class Reconstruct(Compared):
    """Tokenizers: encode and decode held-out images, and compare them with the originals."""

    task: Literal["reconstruct"] = "reconstruct"
    """Name of the task."""
    data: str = "mnist5k/heldout"
    """Images, as `arbench score` reads them."""
    conventions: tuple[str, ...] = ("offline-pairs",)
    """Whose numbers to report, all from one pass: see `arbench ls conventions`."""
    n: int | None = Field(default=None, ge=1)
    """Images, from the start of the source; null: all."""
    batch: int = Field(default=64, ge=1)
    """Images at once; no result depends on it."""
    show: int = Field(default=20, ge=0)
    """The first `show` images are kept for the report."""

    def question(self, *, paired: bool = True, kind: str | None = None, split: str | None = None) -> Question:
        return super().question(paired=True)


TASK = TaskDefinition(
    name="reconstruct",
    spec=Reconstruct,
    work="arbench.tasks.reconstruct.work:ReconstructWork",
    version=3,
    kinds=frozenset({"tokenizer"}),
    group="Quality",
    metrics=(
        MetricInfo("psnr", "dB", "higher", "peak signal-to-noise ratio, per image, then the mean"),
        MetricInfo("ssim", "", "higher", "structural similarity, per image, then the mean"),
        MetricInfo("rfid", "", "lower", "Frechet distance of Inception features to the originals"),
        MetricInfo("frechet", "", "lower", "Frechet distance of other features to the originals, which is not rFID"),
        MetricInfo("feature-distance", "", "lower", "1 - cosine of the features of an image and its reconstruction"),
        MetricInfo("class-agreement", "fraction", "higher", "share classified as their original's class"),
        MetricInfo("codebook-used", "fraction", "higher", "share of the codes seen at least once"),
        MetricInfo("l1", "", "lower", "mean absolute difference of pixels in [0, 1]", column=False),
        MetricInfo("codebook-entropy", "bits", "higher", "entropy of the codes seen, per token", column=False),
        MetricInfo("codebook-perplexity", "codes", "higher", "2^entropy of the codes seen", column=False),
        MetricInfo("dead-codes", "codes", "lower", "codes never seen", column=False),
        MetricInfo("bits-per-image", "bits", "lower", "tokens x log2(codes)", column=False),
        MetricInfo(
            "bits-per-image-entropy", "bits", "lower", "coded one by one with the histogram of a level", column=False
        ),
    ),
    summary=(Pick("psnr"), Pick("rfid"), Pick("frechet")),
    units=lambda spec: cut(spec.n),
    effort=lambda spec, rates: effort(spec, spec.n, spec.batch, rates),
    data=lambda spec: (Data(spec.data, spec.crop, spec.size),),
    counted="n",
    weights=weights_needed,
    transport=frozenset({"batch", "show"}),
    in_key=IN_KEY | {"data"},
)
