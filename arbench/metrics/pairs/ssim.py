"""Structural similarity of image pairs in the variants that are in use, on float64 tensors with values 0..255."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

RANGE = 255.0
TAPS = 11
"""Side of the Gaussian window, hence the smallest image side."""
SIGMA = 1.5
BOX = 7
"""Side of the uniform window."""
TILE = 32
"""Outputs per matrix product of a blur: shorter ones are all overhead, longer ones mostly multiply by zero."""
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales of MS-SSIM (Wang et al., 2003), finest first."""
SMALLEST_MULTISCALE = TAPS * 2 ** (len(SCALES) - 1)
"""The coarsest scale still holds one window: 176. torchmetrics refuses what is smaller, too."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Statistics of a pair within each window, (N, C, H', W') float64."""

    mean_x: Tensor
    mean_y: Tensor
    variances: Tensor
    """Variance of x plus variance of y: SSIM needs no more."""
    covariance: Tensor
    scale: float = 1.0
    """By what the images were multiplied before; SSIM does not change if their range is, too."""

    def inner(self, border: int) -> Windows:
        """Those of the windows at least `border` away from each edge."""
        cut = (..., slice(border, -border), slice(border, -border))
        return Windows(self.mean_x[cut], self.mean_y[cut], self.variances[cut], self.covariance[cut], self.scale)

    def signed(self) -> Windows:
        """Those of the same images on [-1, 1], times 127.5: SSIM's luminance depends on where zero is."""
        middle = RANGE / 2 * self.scale
        return Windows(self.mean_x - middle, self.mean_y - middle, self.variances, self.covariance, self.scale)


def gaussian_windows(x: Tensor, y: Tensor) -> Windows:
    """Gaussian windows of 11 x 11 with sigma 1.5 that lie within the images; population covariances."""
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur((x * x).addcmul_(y, y)).addcmul_(mean_x, mean_x, value=-1).addcmul_(mean_y, mean_y, value=-1)
    return Windows(mean_x, mean_y, variances, _blur(x * y).addcmul_(mean_x, mean_y, value=-1))


def padded_gaussian_windows(x: Tensor, y: Tensor) -> Windows:
    """As `gaussian_windows` but one window per pixel, over images continued by reflection."""
    border = [TAPS // 2] * 4
    return gaussian_windows(F.pad(x, border, mode="reflect"), F.pad(y, border, mode="reflect"))


def uniform_windows(x: Tensor, y: Tensor) -> Windows:
    """Windows of 7 x 7 within the images from uint8 (N, C, H, W); sample covariances (n - 1), scale 49.

    Exact: sums over a window are integers below 2^23, so float32 holds them, and float64 their products.
    """
    a, b, n = x.float(), y.float(), BOX * BOX
    sum_a, sum_b = _box(a).double(), _box(b).double()
    variances = _box((a * a).addcmul_(b, b)).double().mul_(n)
    variances.addcmul_(sum_a, sum_a, value=-1).addcmul_(sum_b, sum_b, value=-1)
    covariance = _box(a * b).double().mul_(n).addcmul_(sum_a, sum_b, value=-1)
    sample = n / (n - 1)
    return Windows(sum_a, sum_b, variances.mul_(sample), covariance.mul_(sample), n)


def similarity(windows: Windows, data_range: float = RANGE, clip_contrast: bool = False) -> Tensor:
    """(N,) mean over channels and windows of luminance x contrast-structure (Wang et al., 2004; K1 0.01, K2 0.03)."""
    x, y = windows.mean_x, windows.mean_y
    c1 = x.new_tensor((0.01 * data_range * windows.scale) ** 2)
    contrast = contrast_structure(windows, data_range)
    if clip_contrast:
        contrast.relu_()
    above = torch.addcmul(c1, x, y, value=2).mul_(contrast)
    below = torch.addcmul(c1, x, x).addcmul_(y, y)
    return above.div_(below).mean((1, 2, 3))


def contrast_structure(windows: Windows, data_range: float = RANGE) -> Tensor:
    """(N, C, H', W') the second factor of SSIM: (2 cov + c2) / (var x + var y + c2)."""
    c2 = windows.covariance.new_tensor((0.03 * data_range * windows.scale) ** 2)
    return torch.add(c2, windows.covariance, alpha=2).div_(windows.variances + c2)


def multiscale(x: Tensor, y: Tensor, finest: Windows) -> Tensor:
    """(N,) MS-SSIM of torchmetrics with normalize="relu"; `finest` are the padded windows at full size.

    Contrast leaves out the border of 5, the coarsest scale's SSIM includes it; both are means before the exponent, and
    negative means count as 0.
    """
    product = torch.ones(len(x), dtype=x.dtype, device=x.device)
    windows = finest
    for scale, exponent in enumerate(SCALES):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
            windows = padded_gaussian_windows(x, y)
        if scale == len(SCALES) - 1:
            value = similarity(windows)
        else:
            value = contrast_structure(windows.inner(TAPS // 2)).mean((1, 2, 3))
        product = product * value.relu() ** exponent
    return product


def pooling_factor(height: int, width: int) -> int:
    """By how much PIQ and the original MATLAB code shrink an image first, so that its short side is about 256."""
    return max(1, round(min(height, width) / 256))


def piq(x: Tensor, y: Tensor) -> Tensor:
    """(N,) as `gaussian_windows`, after average pooling by `pooling_factor`."""
    factor = pooling_factor(x.shape[-2], x.shape[-1])
    return similarity(gaussian_windows(F.avg_pool2d(x, factor), F.avg_pool2d(y, factor)))


def luma(images: Tensor) -> Tensor:
    """(N, 1, H, W) float32 in [0, 1] from uint8 RGB: Y of YIQ, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601, full range).

    In float32 as pyiqa does, since rounding it to bytes afterwards depends on that at halves.
    """
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float32, device=images.device)
    return torch.einsum("nchw,c->nhw", images.float() / RANGE, weights)[:, None]


def _blur(x: Tensor) -> Tensor:
    """(..., H, W) -> (..., H - 10, W - 10), Gaussian-weighted means of the 11 x 11 windows within the image.

    As products with small banded matrices: torch has no fast float64 convolution on CPU, and these run on any device.
    """
    bands = _bands(x.dtype, x.device)
    rows, columns = x.shape[-2] - TAPS + 1, x.shape[-1] - TAPS + 1
    parts = []
    for start in range(0, rows, TILE):
        size = min(TILE, rows - start)
        parts.append(bands[: size + TAPS - 1, :size].T @ x[..., start : start + size + TAPS - 1, :])
    x = torch.cat(parts, -2)
    parts = []
    for start in range(0, columns, TILE):
        size = min(TILE, columns - start)
        parts.append(x[..., start : start + size + TAPS - 1] @ bands[: size + TAPS - 1, :size])
    return torch.cat(parts, -1)


def _bands(dtype: torch.dtype, device: torch.device) -> Tensor:
    """(TILE + 10, TILE): column i holds the Gaussian weights in rows i to i + 10."""
    position = torch.arange(TAPS, dtype=dtype, device=device) - TAPS // 2
    weights = torch.exp(-(position**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    bands = torch.zeros(TILE + TAPS - 1, TILE, dtype=dtype, device=device)
    for column in range(TILE):
        bands[column : column + TAPS, column] = weights
    return bands


def _box(x: Tensor) -> Tensor:
    """(..., H, W) -> (..., H - 6, W - 6), sums over 7 x 7 windows."""
    for axis in (-1, -2):
        length = x.shape[axis]
        two = x.narrow(axis, 0, length - 1) + x.narrow(axis, 1, length - 1)
        four = two.narrow(axis, 0, length - 3) + two.narrow(axis, 2, length - 3)
        three = two.narrow(axis, 4, length - 6) + x.narrow(axis, 6, length - 6)
        x = four.narrow(axis, 0, length - 6) + three
    return x
