"""Comparison of reconstructions with their originals, image by image: PSNR, SSIM, LPIPS and other distances by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import InputError, UnknownName
from ...spec.result import Direction
from ..rows import Rows, blocks
from . import ssim
from .ssim import RANGE, TAPS, Windows, padded_gaussian_windows, similarity, uniform_windows

if TYPE_CHECKING:
    from .perceptual import Network

Images = NDArray[np.uint8] | Tensor
Floats = NDArray[np.float64]
CHUNK_VALUES = 1 << 17
"""Values per chunk on a CPU, at least one image: float64 temporaries of 1 MB stay in its caches."""
CHUNK_VALUES_ON_DEVICE = 1 << 24
"""The same elsewhere, where few large steps are faster: some 2 GB of temporaries."""
Reduction = Literal["mean", "share", "pooled-db"]


class Pair:
    """A chunk of images with their originals, and what several metrics need of it, computed when first asked for."""

    def __init__(self, images: Tensor, originals: Tensor, padded: bool = True) -> None:
        """uint8 (n, 3, H, W); `padded` says whether SSIM windows over the border will be needed, too."""
        self.images, self.originals, self.padded = images, originals, padded

    @cached_property
    def x(self) -> Tensor:
        return self.images.double()

    @cached_property
    def y(self) -> Tensor:
        return self.originals.double()

    @cached_property
    def difference(self) -> Tensor:
        return self.x - self.y

    @cached_property
    def mse(self) -> Tensor:
        """(n,) mean squared error on 0..255."""
        return self.difference.square().mean((1, 2, 3))

    @cached_property
    def luma(self) -> tuple[Tensor, Tensor]:
        return ssim.luma(self.images), ssim.luma(self.originals)

    @cached_property
    def uniform(self) -> Windows:
        return uniform_windows(self.images, self.originals)

    @cached_property
    def padded_gaussian(self) -> Windows:
        return padded_gaussian_windows(self.x, self.y)

    @cached_property
    def gaussian(self) -> Windows:
        """Gaussian windows within the images: the inner ones of those over the border, where these are there anyway."""
        return self.padded_gaussian.inner(TAPS // 2) if self.padded else ssim.gaussian_windows(self.x, self.y)

    @cached_property
    def gaussian11(self) -> Tensor:
        return similarity(self.gaussian)


@dataclass(frozen=True, slots=True)
class PairedMetric:
    """A metric of one reconstruction and its original, under the name of its convention."""

    name: str
    convention: str
    measure: Callable[[Pair], Tensor] | None
    """(n,) of a chunk; None for those that need a network (see `backbones.NEEDS`)."""
    direction: Direction
    unit: str = ""
    smallest: int = 1
    """The smallest side an image may have; `compare` gives NaN below it."""
    reduction: Reduction = "mean"
    """How the per-image values become the corpus value; "pooled-db": 10 log10(255^2 / mean of the values)."""
    padded: bool = False
    """Whether it needs the SSIM windows over the border."""
    flags: tuple[str, ...] = ()


def _psnr(pair: Pair) -> Tensor:
    values = pair.images[0].numel()
    return 10 * torch.log10(RANGE**2 / pair.mse.clamp(min=1 / values))


def _psnr_epsilon(epsilon: float) -> Callable[[Pair], Tensor]:
    return lambda pair: -10 * torch.log10(pair.mse / RANGE**2 + epsilon)


def _psnr_luma(pair: Pair) -> Tensor:
    x, y = pair.luma
    return -10 * torch.log10((x.double() - y.double()).square().mean((1, 2, 3)) + 1e-8)


def _ssim_luma(pair: Pair) -> Tensor:
    x, y = ((image * RANGE).round().double() for image in pair.luma)
    return similarity(ssim.gaussian_windows(x, y), clip_contrast=True)


def _ssim_piq(pair: Pair) -> Tensor:
    return pair.gaussian11 if ssim.pooling_factor(*pair.x.shape[-2:]) == 1 else ssim.piq(pair.x, pair.y)


def _same(pair: Pair) -> Tensor:
    return (pair.images == pair.originals).flatten(1).all(1).double()


_RGB = "uint8, RGB"
_LPIPS = "on [-1, 1], heads 0.1 of the lpips package"
METRICS: dict[str, PairedMetric] = {
    metric.name: metric
    for metric in (
        PairedMetric(
            "psnr",
            f"mean over images of 10 log10(255^2 / mse), {_RGB}; identical images count as one value off by one",
            _psnr,
            "higher",
            "dB",
        ),
        PairedMetric(
            "psnr-pooled",
            f"10 log10(255^2 / mse over all pixels of all images), {_RGB}: torchmetrics' default; per image: the mse",
            lambda pair: pair.mse,
            "higher",
            "dB",
            reduction="pooled-db",
        ),
        PairedMetric(
            "psnr-eps1e-8",
            f"mean over images of -10 log10(mse + 1e-8) on [0, 1], {_RGB}: PIQ, pyiqa",
            _psnr_epsilon(1e-8),
            "higher",
            "dB",
        ),
        PairedMetric(
            "psnr-eps1e-10",
            f"mean over images of -10 log10(mse + 1e-10) on [0, 1], {_RGB}: MaskBit",
            _psnr_epsilon(1e-10),
            "higher",
            "dB",
        ),
        PairedMetric(
            "psnr-y",
            "mean over images of -10 log10(mse + 1e-8) of Y = 0.299 R + 0.587 G + 0.114 B on [0, 1]: pyiqa psnry",
            _psnr_luma,
            "higher",
            "dB",
        ),
        PairedMetric("mse-255", f"mean squared error on 0..255, {_RGB}", lambda pair: pair.mse, "lower"),
        PairedMetric("mse", f"mean squared error on [0, 1], {_RGB}", lambda pair: pair.mse / RANGE**2, "lower"),
        PairedMetric(
            "l1-255",
            f"mean absolute error on 0..255, {_RGB}",
            lambda pair: pair.difference.abs().mean((1, 2, 3)),
            "lower",
        ),
        PairedMetric(
            "l1",
            f"mean absolute error on [0, 1], {_RGB}",
            lambda pair: pair.difference.abs().mean((1, 2, 3)) / RANGE,
            "lower",
        ),
        PairedMetric(
            "identical", "share of images that agree in every value", _same, "higher", "fraction", reduction="share"
        ),
        PairedMetric(
            "ssim-gaussian11",
            "11 x 11 Gaussian, sigma 1.5, population covariances, windows within the image, range 255, per channel",
            lambda pair: pair.gaussian11,
            "higher",
            smallest=TAPS,
        ),
        PairedMetric(
            "ssim-uniform7",
            "7 x 7 uniform, sample covariances, windows within the image, range 255, per channel: scikit-image",
            lambda pair: similarity(pair.uniform),
            "higher",
            smallest=ssim.BOX,
        ),
        PairedMetric(
            "ssim-uniform7-range2",
            "as ssim-uniform7 but with data_range=2 for values on [0, 1], a known mistake: LlamaGen, GigaTok",
            lambda pair: similarity(pair.uniform, 2 * RANGE),
            "higher",
            smallest=ssim.BOX,
            flags=("data_range_2",),
        ),
        PairedMetric(
            "ssim-torchmetrics",
            "11 x 11 Gaussian, sigma 1.5, population covariances, reflected border included: torchmetrics, MaskBit",
            lambda pair: similarity(pair.padded_gaussian),
            "higher",
            smallest=TAPS,
            padded=True,
        ),
        PairedMetric(
            "ssim-torchmetrics-signed",
            "as ssim-torchmetrics with data_range=(-1, 1) for values on [-1, 1], which changes luminance: LightningDiT",
            lambda pair: similarity(pair.padded_gaussian.signed()),
            "higher",
            smallest=TAPS,
            padded=True,
        ),
        PairedMetric(
            "ssim-pyiqa-y",
            "as ssim-gaussian11 of Y = 0.299 R + 0.587 G + 0.114 B rounded to bytes, contrast clipped at 0: pyiqa ssim",
            _ssim_luma,
            "higher",
            smallest=TAPS,
        ),
        PairedMetric(
            "ssim-piq",
            "as ssim-gaussian11 after average pooling by round(short side / 256): PIQ",
            _ssim_piq,
            "higher",
            smallest=TAPS,
        ),
        PairedMetric(
            "ms-ssim",
            'five scales, as ssim-torchmetrics, negative means count as 0: torchmetrics, normalize="relu"',
            lambda pair: ssim.multiscale(pair.x, pair.y, pair.padded_gaussian),
            "higher",
            smallest=ssim.SMALLEST_MULTISCALE,
            padded=True,
        ),
        PairedMetric("lpips-alex", f"AlexNet, x / (|x| + 1e-10), {_LPIPS}", None, "lower", smallest=31),
        PairedMetric("lpips-vgg", f"VGG16, x / (|x| + 1e-10), {_LPIPS}", None, "lower", smallest=16),
        PairedMetric(
            "lpips-alex-torchmetrics", f"AlexNet, x / sqrt(|x|^2 + 1e-8), {_LPIPS}", None, "lower", smallest=31
        ),
        PairedMetric("lpips-vgg-torchmetrics", f"VGG16, x / sqrt(|x|^2 + 1e-8), {_LPIPS}", None, "lower", smallest=16),
        PairedMetric(
            "dists", "VGG16 with L2 pooling on [0, 1], six layers, published alpha and beta", None, "lower", smallest=16
        ),
    )
}


def find(name: str) -> PairedMetric:
    if name not in METRICS:
        raise UnknownName("paired metric", name, METRICS, "arbench ls metrics")
    return METRICS[name]


@torch.inference_mode()
def compare(
    images: Images,
    originals: Images,
    names: Iterable[str],
    networks: Mapping[str, Network] | None = None,
    device: torch.device | str | None = None,
) -> dict[str, Floats]:
    """(N,) float64 per name from uint8 images (N, 3, H, W), what several metrics need computed once.

    NaN where the images are smaller than the metric allows. `networks` come from `perceptual.load`, for the metrics
    that it lists. The values of an image do not depend on what else is in the batch.
    """
    metrics = [find(name) for name in dict.fromkeys(names)]
    a, b = _pair(images, originals)
    where = torch.device(device) if device is not None else a.device
    small = {metric.name for metric in metrics if min(a.shape[2:]) < metric.smallest}
    result: dict[str, Floats] = {name: np.full(len(a), np.nan) for name in small}
    direct = {metric.name: metric.measure for metric in metrics if metric.measure and metric.name not in small}
    padded = any(metric.padded for metric in metrics if metric.name not in small)
    parts: dict[str, list[Tensor]] = {name: [] for name in direct}
    for x, y in _chunks(a, b, CHUNK_VALUES if where.type == "cpu" else CHUNK_VALUES_ON_DEVICE):
        pair = Pair(x.to(where), y.to(where), padded)
        for name, measure in direct.items():
            parts[name].append(measure(pair))
    result.update({name: _joined(values) for name, values in parts.items()})
    for metric in metrics:
        if metric.name not in result:
            result.update(_network(metric.name, networks or {}).measure(a, b))
    return {metric.name: result[metric.name] for metric in metrics}


def _network(name: str, networks: Mapping[str, Network]) -> Network:
    if name not in networks:
        raise InputError(f"{name} needs a network", "none was given", f"perceptual.load([{name!r}], weights)")
    return networks[name]


def feature_cosine(features: Rows, originals: Rows) -> Floats:
    """(N,) cosine distance 1 - cos of paired feature vectors (N, D), in [0, 2]; 0 for features that agree.

    Cosine, not L2: it does not grow with the extractor's own scale. Two zero vectors are at distance 0, a zero and a
    non-zero vector at 1.
    """
    if features.shape != originals.shape or len(features.shape) != 2:
        raise InputError("paired features must have one shape, (N, D)", f"found {features.shape} and {originals.shape}")
    parts = [_cosine(a, b) for a, b in zip(blocks(features), blocks(originals), strict=True)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _cosine(a: Floats, b: Floats) -> Floats:
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


def _chunks(a: Tensor, b: Tensor, values: int) -> Iterable[tuple[Tensor, Tensor]]:
    if not len(a):
        return ()
    size = max(1, values // a[0].numel())
    return zip(torch.split(a, size), torch.split(b, size), strict=True)


def _joined(values: list[Tensor]) -> Floats:
    array: Floats = torch.cat(values).cpu().numpy().astype(np.float64) if values else np.zeros(0)
    return array
