"""Codes: how much of a codebook images use, what the codes carry, and how latents bear noise."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...spec.task import Effort, MetricInfo, Pick, Rates, TaskDefinition
from ...spec.unit import cut
from ..on_images import OnImages


class CodesOfImages(OnImages):
    """Tokenizers: use of the codebook by the number of images, bits that codes carry, spread of latents."""

    task: Literal["codes"] = "codes"
    """Name of the task."""
    n: int | None = Field(default=500, ge=1)
    """Images, from the start of the source; null: all."""
    noise: float = Field(default=0.1, gt=0)
    """Of continuous latents: noise that is added before they are decoded, in standard deviations of each channel."""


def _effort(spec: CodesOfImages, rates: Rates) -> Effort:
    return Effort((spec.n or 0) * rates.image, spec.batch)


TASK = TaskDefinition(
    name="codes",
    spec=CodesOfImages,
    work="arbench.tasks.codes.work:CodesWork",
    version=1,
    kinds=frozenset({"tokenizer"}),
    group="Codes",
    metrics=(
        MetricInfo("codebook-seen", "fraction", "higher", "share of the codes that so many images show", column=False),
        MetricInfo("adaptive-bits", "bits", None, "of an image, by a code that learns as it goes", column=False),
        MetricInfo("bits-carried", "fraction", "higher", "the least of them over tokens x log2(codes)"),
        MetricInfo("effective-rank", "channels", "higher", "exp of the entropy of the channels' spectrum"),
        MetricInfo("noise-cost", "dB", "lower", "PSNR that noise on the latents takes"),
    ),
    summary=(Pick("bits-carried"), Pick("effective-rank")),
    units=lambda spec: cut(spec.n),
    effort=_effort,
    data=lambda spec: (spec.images,),
    counted="n",
    transport=frozenset({"batch"}),
)
