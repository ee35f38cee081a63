"""What the tasks that look at a tokenizer on given images share: fields of a suite, and what the images are."""

from __future__ import annotations

from pydantic import Field

from ..spec.task import Data, TaskSpec


class OnImages(TaskSpec):
    """Which images a tokenizer is given."""

    data: str = "mnist5k/heldout"
    """Images, as `arbench score` reads them."""
    crop: str = "none"
    """How the images are cropped, for instance adm-center-crop-v1; needs `size`."""
    size: int | None = Field(default=None, ge=1)
    """Side of the square that `crop` makes, in pixels."""
    n: int | None = Field(default=200, ge=1)
    """Images, from the start of the source; null: all."""
    batch: int = Field(default=64, ge=1)
    """Images at once; no result depends on it."""

    @property
    def images(self) -> Data:
        return Data(self.data, self.crop, self.size)
