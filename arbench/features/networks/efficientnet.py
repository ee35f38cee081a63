"""EfficientNet-Lite0 as a feature recipe: the one whose weights come with the installation."""

from __future__ import annotations

import torch
from torch import Tensor

from ..extractor import FeatureExtractor, Mode
from ..weight_files import Weights
from .efficientnet_features import EfficientNetLite0
from .precision import precision


def load(recipe: str, weights: Weights, device: str, mode: Mode) -> FeatureExtractor:
    """The extractor of "efficientnet-lite0"; it needs none of `weights`."""
    return EfficientNet(recipe, device, mode)


class EfficientNet(FeatureExtractor):
    """The features of `EfficientNetLite0` as "pooled" (n, 1280), under the same convention and in its own batch size.

    Batch norm is folded and memory is channels last in both modes; they differ on CUDA alone.
    """

    weights = None

    def __init__(self, recipe: str, device: str, mode: Mode) -> None:
        self._wrapped = EfficientNetLite0(device)
        self.recipe, self.mode = recipe, mode
        self.device = torch.device(device)
        self.outputs = {"pooled": self._wrapped.dimension}
        self.batch = self._wrapped._batch

    @property
    def convention(self) -> str:
        return f"{self._wrapped.convention}, {self.mode}"

    def prepare(self, images: Tensor) -> Tensor:
        return self._wrapped._prepared(images)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        with precision(self.device, self.mode):
            return {"pooled": self._wrapped._network(pixels)}
