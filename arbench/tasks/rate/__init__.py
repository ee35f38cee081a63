"""Rate: bits of a tokenizer's codes and what they buy, beside JPEG and WebP of the same images."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ...metrics.pairs.backbones import NEEDS
from ...spec.task import Data, Effort, MetricInfo, Pick, Rates, TaskDefinition, TaskSpec, distinct
from ...spec.unit import cut
from ..on_images import Crop, check_crop


class Rate(TaskSpec):
    """Tokenizers: bits per pixel, PSNR, SSIM and LPIPS, beside JPEG and WebP at every quality, and at the same rate."""

    task: Literal["rate"] = "rate"
    """Name of the task."""
    data: str = "mnist5k/heldout"
    """Images, as `arbench score` reads them."""
    crop: Crop = "none"
    """How the images are cropped, for instance adm-center-crop-v1; needs `size`."""
    size: int | None = Field(default=None, ge=1)
    """Side of the square that `crop` makes, in pixels."""
    n: int | None = Field(default=200, ge=1)
    """Images, from the start of the source; null: all."""
    qualities: Annotated[tuple[Annotated[int, Field(ge=1, le=95)], ...], AfterValidator(distinct)] = Field(
        default=(1, 5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95), min_length=2
    )
    """Of the JPEG and WebP files, as Pillow counts them."""
    batch: int = Field(default=64, ge=1)
    """Images at once; no result depends on it."""

    @model_validator(mode="after")
    def _sized(self) -> Self:
        check_crop(self.crop, self.size)
        return self


CODEC_SECONDS = 2e-7
"""To write and read a value of an image as JPEG or WebP, about."""
QUALITIES = {"psnr": "psnr", "ssim": "ssim-gaussian11", "lpips": "lpips-alex"}
"""What is measured against the rate, and which variant of it."""


def _effort(spec: Rate, rates: Rates) -> Effort:
    codecs = 2 * len(spec.qualities) * rates.pixels * CODEC_SECONDS
    return Effort((spec.n or 0) * (rates.image + codecs), spec.batch)


TASK = TaskDefinition(
    name="rate",
    spec=Rate,
    work="arbench.tasks.rate.work:RateWork",
    version=2,
    kinds=frozenset({"tokenizer"}),
    group="Rate",
    metrics=(
        MetricInfo("bits-per-pixel", "bits", "lower", "tokens x log2(codes) over pixels"),
        MetricInfo("rate-psnr", "dB", "higher", "PSNR at these bits, per image, then the mean", column=False),
        MetricInfo("rate-ssim", "", "higher", "SSIM at these bits, per image, then the mean", column=False),
        MetricInfo("rate-lpips", "", "lower", "LPIPS of AlexNet at these bits, per image, then the mean", column=False),
        MetricInfo("over-codec", "dB", "higher", "PSNR over that of a file of the same size, per image"),
        MetricInfo("codec-bits", "bits", "lower", "bits per pixel of the file that Pillow writes", column=False),
        MetricInfo("codec-psnr", "dB", "higher", "PSNR of that file, per image, then the mean", column=False),
        MetricInfo("codec-ssim", "", "higher", "SSIM of that file, per image, then the mean", column=False),
        MetricInfo("codec-lpips", "", "lower", "LPIPS of that file, per image, then the mean", column=False),
    ),
    summary=(
        Pick("bits-per-pixel"),
        Pick("over-codec", at={"codec": "JPEG"}),
        Pick("over-codec", at={"codec": "WEBP"}),
    ),
    units=lambda spec: cut(spec.n),
    effort=_effort,
    data=lambda spec: (Data(spec.data, spec.crop, spec.size),),
    counted="n",
    weights=lambda spec: {NEEDS[QUALITIES["lpips"]]: "rate-lpips, codec-lpips"},
    transport=frozenset({"batch"}),
)
