"""VGG16 (Simonyan and Zisserman, arXiv 1409.1556): the features behind torch-fidelity's precision and recall."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..extractor import FeatureExtractor, Mode
from ..to_device import batch_for
from ..weight_files import WeightFile, Weights
from .checkpoint import assign, check_names, read_state_dict
from .pixels import IMAGENET_MEAN, IMAGENET_STD, standardise
from .precision import precision
from .resize import tf1_bilinear

SIDE = 224
# of grey levels: torch-fidelity does not divide them by 255 first
MEAN, STD = ((255 * red, 255 * green, 255 * blue) for red, green, blue in (IMAGENET_MEAN, IMAGENET_STD))
CPU_BATCH = 8
MEGABYTES = 40
"""Of activations for one image: the first layer's input, output and its ReLU, 13 MB each."""


def load(recipe: str, weights: Weights, device: str, mode: Mode) -> FeatureExtractor:
    """The extractor of "vgg16/torch-fidelity". Raises `MissingWeights`, `CheckpointError`."""
    return Vgg16(recipe, weights.locate("vgg16"), device, mode)


class Vgg16(FeatureExtractor):
    """The second hidden layer of the classifier after its ReLU, as "fc2_relu" (n, 4096).

    Images go to 224 x 224 by TensorFlow 1's bilinear whatever their shape, then ImageNet's mean and deviation, on
    0..255. The weight file is torchvision's.
    """

    def __init__(self, recipe: str, file: WeightFile, device: str, mode: Mode) -> None:
        self.recipe, self.weights, self.mode = recipe, file, mode
        self.device = torch.device(device)
        self.outputs = {"fc2_relu": 4096}
        self.batch = batch_for(self.device, CPU_BATCH, MEGABYTES)
        network = uninitialised()
        state = read_state_dict(file.path)
        check_names(network.state_dict(), state, file, "torchvision's VGG16")
        network.classifier = network.classifier[:5]  # up to the ReLU of fc2
        assign(network, {name: tensor for name, tensor in state.items() if not name.startswith("classifier.6.")})
        self.layout = torch.channels_last if mode == "fast" else torch.contiguous_format
        self.network: nn.Module = network.to(self.device, memory_format=self.layout)

    def prepare(self, images: Tensor) -> Tensor:
        return standardise(tf1_bilinear(images, SIDE), MEAN, STD, scale=1)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        with precision(self.device, self.mode):
            return {"fc2_relu": self.network(pixels)}


def uninitialised() -> Any:
    """torchvision's network on the meta device."""
    from torchvision.models import vgg16

    with torch.device("meta"):
        return vgg16(weights=None)
