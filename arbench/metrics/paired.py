"""Per-image comparison of reconstructions with their originals: PSNR, SSIM, distance between features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError

Images = NDArray[np.uint8] | Tensor
Floats = NDArray[np.float64]
RANGE = 255.0
TAPS = 11
"""Side of the SSIM window, hence the smallest image side."""
SIGMA = 1.5
CHUNK_VALUES = 1 << 19
"""Values per chunk: bounds the float64 temporaries to some 50 MB, which is also fastest."""


def psnr(images: Images, originals: Images) -> Floats:
    """(N,) dB, from the mean squared error over all values of an image on 0..255; average them over images.

    Never infinite: identical images count as if one value were off by one level, the highest PSNR that two different
    images of their size can have (83.0 dB at 3 x 32 x 32, 101.1 dB at 3 x 256 x 256). `identical` tells them apart.
    """
    a, b = _pair(images, originals)
    values = a[0].numel() if len(a) else 1
    errors = [(x - y).square().mean((1, 2, 3)) for x, y in _chunks(a, b)]
    mse = torch.cat(errors) if errors else torch.zeros(0, dtype=torch.float64)
    return _numpy(10 * torch.log10(RANGE**2 / mse.clamp(min=1 / values)))


def identical(images: Images, originals: Images) -> NDArray[np.bool_]:
    """(N,) whether every value of the pair agrees."""
    a, b = _pair(images, originals)
    same: NDArray[np.bool_] = (a == b).flatten(1).all(1).cpu().numpy()
    return same


def ssim_gaussian11(images: Images, originals: Images) -> Floats:
    """(N,) structural similarity (Wang et al., 2004), mean over channels and pixels.

    Gaussian window of 11 x 11 with sigma 1.5, population covariances, K1 = 0.01, K2 = 0.03, range 255, windows that lie
    within the image only: scikit-image's `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`, which crops
    a border of 5. Sides must be at least 11.
    """
    a, b = _pair(images, originals)
    if min(a.shape[2:]) < TAPS:
        raise InputError(
            f"SSIM needs images of at least {TAPS} x {TAPS}", f"these are {a.shape[2]} x {a.shape[3]}", "use PSNR alone"
        )
    values = [_ssim(x, y) for x, y in _chunks(a, b)]
    return _numpy(torch.cat(values) if values else torch.zeros(0, dtype=torch.float64))


def feature_cosine(features: NDArray[Any], originals: NDArray[Any]) -> Floats:
    """(N,) cosine distance 1 - cos of paired feature vectors (N, D), in [0, 2]; 0 for features that agree.

    Cosine, not L2: it does not grow with the extractor's own scale. Two zero vectors are at distance 0, a zero and a
    non-zero vector at 1.
    """
    a, b = np.asarray(features, np.float64), np.asarray(originals, np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise InputError("paired features must have one shape, (N, D)", f"found {a.shape} and {b.shape}")
    norm_a, norm_b = np.linalg.norm(a, axis=1, keepdims=True), np.linalg.norm(b, axis=1, keepdims=True)
    unit_a = np.divide(a, norm_a, out=np.zeros_like(a), where=norm_a > 0)
    unit_b = np.divide(b, norm_b, out=np.zeros_like(b), where=norm_b > 0)
    # half the squared chord is 1 - cos without its cancellation for nearly equal vectors
    distance: Floats = ((unit_a - unit_b) ** 2).sum(1) / 2
    one_is_zero = (norm_a > 0)[:, 0] != (norm_b > 0)[:, 0]
    return np.where(one_is_zero, 1.0, distance)


def _pair(images: Images, originals: Images) -> tuple[Tensor, Tensor]:
    a, b = torch.as_tensor(images), torch.as_tensor(originals)
    if a.dtype != torch.uint8 or b.dtype != torch.uint8 or a.ndim != 4 or a.shape != b.shape:
        raise InputError(
            "paired metrics compare uint8 images of one shape, (N, C, H, W)",
            f"found {a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}",
        )
    return a, b.to(a.device)


def _chunks(a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor]]:
    if not len(a):
        return []
    size = max(1, CHUNK_VALUES // a[0].numel())
    pairs = zip(torch.split(a, size), torch.split(b, size), strict=True)
    return [(x.double(), y.double()) for x, y in pairs]


def _numpy(values: Tensor) -> Floats:
    array: Floats = values.cpu().numpy().astype(np.float64)
    return array


def _blur(x: Tensor) -> Tensor:
    """(..., H, W) -> (..., H - 10, W - 10), Gaussian-weighted means of the 11 x 11 windows within the image."""
    position = torch.arange(TAPS, dtype=x.dtype, device=x.device) - TAPS // 2
    weights = torch.exp(-(position**2) / (2 * SIGMA**2))
    taps = [float(weight) for weight in weights / weights.sum()]
    for axis in (-1, -2):  # shifted sums: torch has no fast float64 convolution on CPU
        length = x.shape[axis] - TAPS + 1
        total = x.narrow(axis, 0, length) * taps[0]
        for shift, tap in enumerate(taps[1:], start=1):
            total.add_(x.narrow(axis, shift, length), alpha=tap)
        x = total
    return x


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return similarity.mean((1, 2, 3))
