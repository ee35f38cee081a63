"""The feature network, 64 numbers of an image of 32 x 32, and the convention that asks for it: Frechet and KID."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arbench.evaluate.conventions import Convention, Definition
from arbench.features.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from arbench.features.extractor import FeatureExtractor

LENGTH = 64
RECIPES["toy"] = Recipe("toy", {"pooled": LENGTH}, (), "toy.features:load", "two random convolutions", 0.01)
CONVENTION = Convention(
    "toy",
    "Frechet distance and KID on a toy network",
    (
        Definition("frechet", "toy", "frechet", "toy:pooled", what="Frechet distance"),
        Definition("kid", "toy", "kid-subsets", "toy:pooled", {"preset": "dgm-eval"}, what="100 subsets"),
    ),
)


def load(recipe: str, weights: object, device: str, mode: Any) -> FeatureExtractor:
    """The extractor; it needs no weights."""
    import torch
    from torch import Tensor
    from torch.nn import functional as F

    from arbench.features.extractor import FeatureExtractor
    from toy.model import kernels

    class Network(FeatureExtractor):
        def __init__(self) -> None:
            self.recipe, self.mode, self.device = recipe, mode, torch.device(device)
            self.outputs, self.weights, self.batch = {"pooled": LENGTH}, None, 64
            self.kernels = kernels([(3, 32), (32, LENGTH)], seed=1)

        def prepare(self, images: Tensor) -> Tensor:
            return images.float() / 127.5 - 1

        def forward(self, pixels: Tensor) -> dict[str, Tensor]:
            first = F.conv2d(pixels, self.kernels[0], stride=2, padding=1).relu()
            return {"pooled": F.conv2d(first, self.kernels[1], stride=2, padding=1).relu().mean((2, 3))}

    return Network()
