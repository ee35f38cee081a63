"""Which network the perceptual distances of image pairs need, by its name in the weight registry. Imports no torch."""

from __future__ import annotations

from typing import Literal

Backbone = Literal["alexnet", "vgg16"]
NEEDS: dict[str, Backbone] = {
    "lpips-alex": "alexnet",
    "lpips-alex-torchmetrics": "alexnet",
    "lpips-vgg": "vgg16",
    "lpips-vgg-torchmetrics": "vgg16",
    "dists": "vgg16",
}
