"""What the tasks that look at a tokenizer on given images share: fields of a suite, and what the images are."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from ..data.crops import CROPS
from ..spec.task import Data, TaskSpec


def _known_crop(value: str) -> str:
    if value not in CROPS:
        raise ValueError(f"a crop is one of {', '.join(CROPS)}")
    return value


Crop = Annotated[str, AfterValidator(_known_crop)]
"""How images are cropped."""


def check_crop(crop: str, size: int | None) -> None:
    """Raises `ValueError` where one of the two is given without the other."""
    if crop != "none" and size is None:
        raise ValueError(f"crop: the crop {crop} needs a size")
    if crop == "none" and size is not None:
        raise ValueError(f"size: {size} is that of a crop, and no crop is asked for")


class OnImages(TaskSpec):
    """Which images a tokenizer is given."""

    data: str = "mnist5k/heldout"
    """Images, as `arbench score` reads them."""
    crop: Crop = "none"
    """How the images are cropped, for instance adm-center-crop-v1; needs `size`."""
    size: int | None = Field(default=None, ge=1)
    """Side of the square that `crop` makes, in pixels."""
    n: int | None = Field(default=200, ge=1)
    """Images, from the start of the source; null: all."""
    batch: int = Field(default=64, ge=1)
    """Images at once; no result depends on it."""

    @model_validator(mode="after")
    def _sized(self) -> Self:
        check_crop(self.crop, self.size)
        return self

    @property
    def images(self) -> Data:
        return Data(self.data, self.crop, self.size)
