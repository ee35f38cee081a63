"""Codes: how much of a codebook images use, what the codes carry, and how latents bear noise."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ...spec.task import Effort, MetricInfo, Pick, Rates, TaskDefinition, distinct
from ...spec.unit import cut
from ..on_images import OnImages

DECODINGS = 6
"""Of an image whose code is exchanged: itself, and with five neighbours."""


class CodesOfImages(OnImages):
    """Tokenizers: use of the codebook by the number of images, bits that codes carry, spread of latents."""

    task: Literal["codes"] = "codes"
    """Name of the task."""
    n: int | None = Field(default=500, ge=1)
    """Images, from the start of the source; null: all."""
    noise: Annotated[tuple[Annotated[float, Field(gt=0)], ...], AfterValidator(distinct)] = Field(
        default=(0.02, 0.05, 0.1, 0.2, 0.5, 1.0), min_length=1
    )
    """Of continuous latents: noise that is added before they are decoded, in standard deviations of each channel."""
    swaps: int = Field(default=64, ge=1)
    """Of so many images one code is exchanged for others, near and far, to see how much the image changes."""


def _effort(spec: CodesOfImages, rates: Rates) -> Effort:
    decoded = (spec.n or 0) * (1 + len(spec.noise) / 2) + spec.swaps * DECODINGS / 2
    return Effort(decoded * rates.image, spec.batch)


TASK = TaskDefinition(
    name="codes",
    spec=CodesOfImages,
    work="arbench.tasks.codes.work:CodesWork",
    version=3,
    kinds=frozenset({"tokenizer"}),
    group="Codes",
    metrics=(
        MetricInfo("codebook-seen", "fraction", "higher", "share of the codes that so many images show", column=False),
        MetricInfo("adaptive-bits", "bits", None, "of an image, by a code that learns as it goes", column=False),
        MetricInfo("bits-carried", "fraction", "higher", "the least of them over tokens x log2(codes)"),
        MetricInfo("ngram-gain", "bits", None, "a token, that an adaptive code saves by those before", column=False),
        MetricInfo("mutual-information", "bits", None, "that codes of an image tell of each other", column=False),
        MetricInfo("position-entropy", "bits", None, "of the codes at one position, mean", column=False),
        MetricInfo("constant-positions", "fraction", "lower", "positions that always show the same code", column=False),
        MetricInfo("swap-ratio", "fraction", None, "change by the nearest codeword over that by the farthest"),
        MetricInfo("swap-correlation", "", "higher", "of codeword distance and change of the image", column=False),
        MetricInfo("swap-change", "levels", None, "of the image when a code is exchanged", column=False),
        MetricInfo("effective-rank", "channels", "higher", "exp of the entropy of the channels' spectrum"),
        MetricInfo("noise-tolerance", "deviations", "higher", "noise on the latents that takes 1 dB of PSNR"),
        MetricInfo("noise-cost", "dB", "lower", "PSNR that noise on the latents takes", column=False),
        MetricInfo("noise-error", "levels", "lower", "change of the image by noise on the latents", column=False),
        MetricInfo("latent-deviation", "", None, "standard deviation of the latents", column=False),
        MetricInfo("posterior-kl", "bits", None, "of an image's posterior from a unit normal", column=False),
    ),
    summary=(Pick("bits-carried"), Pick("effective-rank")),
    units=lambda spec: cut(spec.n),
    effort=_effort,
    data=lambda spec: (spec.images,),
    counted="n",
    transport=frozenset({"batch"}),
)
