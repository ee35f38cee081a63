"""What a feature extractor is, and what it has in common with every other: fixed batches, mixed image sizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .to_device import Back, Copies
from .weight_files import WeightFile

Mode = Literal["parity", "fast"]
"""parity: float32, TF32 off, layers as in the reference. fast: batch norm folded, channels last, TF32/bf16 on CUDA."""


@dataclass(frozen=True, slots=True)
class Running:
    """A call whose work the device has been given."""

    outputs: Mapping[str, int]
    batches: Sequence[Back]

    def result(self) -> dict[str, NDArray[np.float32]]:
        """{output: (n, D)}, once they are there."""
        found = [batch.wait() for batch in self.batches]
        return {
            name: np.concatenate([rows[name] for rows in found]) if found else np.empty((0, length), np.float32)
            for name, length in self.outputs.items()
        }


class FeatureExtractor(ABC):
    """uint8 RGB images in, named float32 vectors out.

    `recipe` is its name among `arbench.features.recipes.RECIPES`, `outputs` maps the name of each output to its length,
    `convention` names all that decides the numbers: recipe, digest of the weights, mode. The network runs in batches
    of exactly `batch` images (the last one filled up) that lie in memory in one way, `layout`: convolutions of another
    layout sum in another order. So a number does not depend on how the images arrive.
    """

    recipe: str
    outputs: Mapping[str, int]
    weights: WeightFile | None
    mode: Mode
    device: torch.device
    batch: int
    layout: torch.memory_format = torch.contiguous_format
    compiled: bool = False
    """Whether the network runs through `torch.compile`."""

    @property
    def convention(self) -> str:
        digest = f", weights {self.weights.sha256[:8]}" if self.weights else ""
        return f"{self.recipe}{digest}, {self.mode}"

    def expect(self, count: int | None) -> None:  # noqa: B027, most have nothing to prepare
        """Told before a pass how many images it has, or None: a network may compile itself if they are many."""

    @abstractmethod
    def prepare(self, images: Tensor) -> Tensor:
        """Network input (n, 3, S, S), float, from uint8 images (n, 3, H, W) of one size."""

    @abstractmethod
    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Outputs (n, D) of prepared input."""

    @property
    def ahead(self) -> int:
        """Calls that may be begun while the one before still runs: on a GPU one, on a CPU the work is done by then."""
        return int(self._copies.asynchronous)

    @cached_property
    def _copies(self) -> Copies:
        return Copies(self.device)

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
        """{output: (n, D)} of n images (3, H, W), which may differ in size."""
        return self.begin(images).result()

    def begin(self, images: Sequence[NDArray[np.uint8]]) -> Running:
        """The same, without waiting for a GPU: the next call's images can be copied while this one computes."""
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] != 3:
                raise InputError(f"{self.recipe} takes uint8 images (3, H, W)", f"found {image.dtype} {image.shape}")
        batches = []
        with torch.inference_mode():
            for start in range(0, len(images), self.batch):
                part = images[start : start + self.batch]
                prepared = [self.prepare(each) for each in self._copies.there(part)]
                pixels = prepared[0] if len(prepared) == 1 else torch.cat(prepared)
                if len(part) < self.batch:
                    pixels = torch.cat([pixels, pixels[-1:].expand(self.batch - len(part), -1, -1, -1)])
                # joining or filling up may have changed the layout
                pixels = pixels.contiguous(memory_format=self.layout)
                rows = {name: each[: len(part)] for name, each in self.forward(pixels).items()}
                batches.append(self._copies.back(rows))
        return Running(self.outputs, batches)


def deviation(fast: FeatureExtractor, parity: FeatureExtractor, images: Sequence[NDArray[np.uint8]]) -> float:
    """Largest difference of any output on a probe batch, relative to the largest value of that output."""
    if not images:
        raise InputError("no images to compare the fast mode with", "the probe batch is empty", "give at least one")
    a, b = fast(images), parity(images)
    return max(float(np.abs(a[name] - b[name]).max() / np.abs(b[name]).max()) for name in b)
