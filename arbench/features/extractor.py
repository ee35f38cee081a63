"""What a feature extractor is, and what it has in common with every other: fixed batches, mixed image sizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .weight_files import WeightFile

Mode = Literal["parity", "fast"]
"""parity: float32, TF32 off, layers as in the reference. fast: batch norm folded, channels last, TF32/bf16 on CUDA."""


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

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
        """{output: (n, D)} of n images (3, H, W), which may differ in size."""
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] != 3:
                raise InputError(f"{self.recipe} takes uint8 images (3, H, W)", f"found {image.dtype} {image.shape}")
        found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self.outputs}
        with torch.inference_mode():
            for start in range(0, len(images), self.batch):
                part = images[start : start + self.batch]
                pixels = self._pixels(part)
                if len(part) < self.batch:
                    pixels = torch.cat([pixels, pixels[-1:].expand(self.batch - len(part), -1, -1, -1)])
                # joining or filling up may have changed the layout
                pixels = pixels.contiguous(memory_format=self.layout)
                for name, rows in self.forward(pixels).items():
                    found[name].append(rows[: len(part)].float().cpu().numpy())
        return {
            name: np.concatenate(found[name]) if found[name] else np.empty((0, length), np.float32)
            for name, length in self.outputs.items()
        }

    def _pixels(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Prepared input of one batch; images of one size are prepared together."""
        if len({image.shape for image in images}) == 1:
            return self.prepare(torch.from_numpy(np.stack(images)).to(self.device))
        return torch.cat([self.prepare(torch.from_numpy(image)[None].to(self.device)) for image in images])


def deviation(fast: FeatureExtractor, parity: FeatureExtractor, images: Sequence[NDArray[np.uint8]]) -> float:
    """Largest difference of any output on a probe batch, relative to the largest value of that output."""
    if not images:
        raise InputError("no images to compare the fast mode with", "the probe batch is empty", "give at least one")
    a, b = fast(images), parity(images)
    return max(float(np.abs(a[name] - b[name]).max() / np.abs(b[name]).max()) for name in b)
