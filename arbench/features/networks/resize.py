"""How each FID tool resizes: one function per convention, uint8 images in, float grey levels out."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .pixels import constant

SIZE = 299


def tf1_bilinear(images: Tensor, size: int = SIZE, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, c, size, size) on 0..255 of uint8 (n, c, H, W), as TensorFlow 1 `resize_bilinear` without half-pixel centres.

    src = i * float32(in / out), lo = floor(src), value = a + (b - a) (src - lo): across first, then down; bit for bit.
    """
    left, right, dx = _tf1_taps(images.shape[3], size, dtype, images.device)
    above, below, dy = _tf1_taps(images.shape[2], size, dtype, images.device)
    # picking whole rows is a copy, picking within rows a gather, so the columns are made rows for a while
    columns = images.transpose(2, 3).contiguous()  # (n, c, W, H)
    across = _lerp(columns.index_select(2, left).to(dtype), columns.index_select(2, right).to(dtype), dx[:, None])
    across = across.transpose(2, 3).contiguous()  # (n, c, H, size)
    return _lerp(across.index_select(2, above), across.index_select(2, below), dy[:, None])


def _lerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """a + (b - a) weight with every step rounded; overwrites b. `torch.lerp` may fuse, which changes the last bit."""
    return b.sub_(a).mul_(weight).add_(a)


@functools.lru_cache(maxsize=256)
def _tf1_taps(source: int, size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper neighbours and the fraction between them, each (size,)."""
    scale = torch.tensor(source / size, dtype=torch.float32)
    place = torch.arange(size, dtype=dtype) * scale
    low = place.long()
    high = (low + 1).clamp_max(source - 1)
    return low.to(device), high.to(device), (place - low).to(device)


def pil_bicubic(images: Tensor, size: int = SIZE) -> Tensor:
    """(n, c, size, size) on 0..255 of uint8 (n, c, H, W), as PIL's antialiased BICUBIC of float images, then clipped.

    The rule of clean-fid. PIL sums in float64 and rounds to float32 after each direction: so does this.
    """
    across = _pil_matrix(images.shape[3], size, images.device)  # (W, size)
    down = _pil_matrix(images.shape[2], size, images.device).T  # (size, H)

    def one(image: Tensor) -> Tensor:
        wide = (image.double() @ across).float()  # (c, H, size)
        return (down @ wide.double()).float()

    # one image at a time: the order of the sums in a product may depend on how many there are
    return torch.stack([one(image) for image in images]).clamp_(0, 255)


@functools.lru_cache(maxsize=64)
def _pil_matrix(source: int, size: int, device: torch.device) -> Tensor:
    """(source, size) weights of PIL's BICUBIC: Keys' kernel with a = -1/2, widened by the factor when reducing."""
    scale = source / size
    stretch = max(scale, 1.0)
    reach = 2.0 * stretch
    matrix = torch.zeros(source, size, dtype=torch.float64)
    for column in range(size):
        centre = (column + 0.5) * scale
        first = max(int(centre - reach + 0.5), 0)
        last = min(int(centre + reach + 0.5), source)
        weights = [_keys((place - centre + 0.5) / stretch) for place in range(first, last)]
        matrix[first:last, column] = torch.tensor(weights, dtype=torch.float64) / math.fsum(weights)
    return matrix.to(device)


def _keys(x: float) -> float:
    """Keys' cubic convolution kernel, a = -1/2."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    if x < 2:
        return ((-0.5 * x + 2.5) * x - 4) * x + 2
    return 0.0


def half_pixel_bilinear(images: Tensor, size: int = SIZE) -> Tensor:
    """(n, c, size, size) on 0..1 of uint8 (n, c, H, W): bilinear, half-pixel centres, no antialias. pytorch-fid."""
    return F.interpolate(
        images.float() / constant(255, images.device), size=(size, size), mode="bilinear", align_corners=False
    )


def antialias_bilinear(images: Tensor, size: int = SIZE) -> Tensor:
    """(n, c, size, size) on 0..255 of uint8 (n, c, H, W): bilinear, half-pixel centres, antialias. torchmetrics."""
    return F.interpolate(images.float(), size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def grid_sample_bilinear(images: Tensor, size: int = SIZE) -> Tensor:
    """(n, c, size, size) on 0..255 of uint8 (n, c, H, W): TF1 bilinear by an affine grid. StyleGAN.

    The grid is moved by 1/W - 1/size across and 1/H - 1/size down, in its units of half an image.
    """
    grid = _affine_grid(images.shape[2], images.shape[3], size, images.device).expand(len(images), -1, -1, -1)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


@functools.lru_cache(maxsize=64)
def _affine_grid(height: int, width: int, size: int, device: torch.device) -> Tensor:
    """(1, size, size, 2) places, computed on the CPU whatever the device."""
    theta = torch.eye(2, 3)
    theta[0, 2] = theta[0, 0] / width - theta[0, 0] / size  # in float32, as there
    theta[1, 2] = theta[1, 1] / height - theta[1, 1] / size
    return F.affine_grid(theta[None], [1, 3, size, size], align_corners=False).to(device)
