"""Variants of SSIM against the libraries whose conventions they are, on photographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage import data
from skimage.color import rgb2yiq
from skimage.measure import block_reduce
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from arbench.metrics.pairs.paired import compare

pytestmark = pytest.mark.numerical

Images = NDArray[np.uint8]


def _photographs(height: int, width: int) -> tuple[Images, Images]:
    """(3, 3, height, width) reconstructions and originals: noisy, blurred, and the negative of its original."""
    crops = [image[:height, :width].transpose(2, 0, 1) for image in (data.astronaut(), data.coffee(), data.astronaut())]
    originals = np.stack(crops)
    noise = np.random.default_rng(0).normal(0, 20, originals[0].shape)
    noisy = np.clip(originals[0] + noise, 0, 255).astype(np.uint8)
    blurred = np.stack([gaussian_filter(channel, 1.0) for channel in originals[1]])
    return np.stack([noisy, blurred, 255 - originals[2]]), originals


@pytest.mark.parametrize(("height", "width"), [(256, 256), (60, 91), (7, 7), (8, 30)])
@pytest.mark.parametrize(("name", "data_range"), [("ssim-uniform7", 1.0), ("ssim-uniform7-range2", 2.0)])
def test_uniform_windows_equal_scikit_image(name: str, data_range: float, height: int, width: int) -> None:
    images, originals = _photographs(height, width)
    theirs = [
        structural_similarity(a / 255, b / 255, data_range=data_range, channel_axis=0)
        for a, b in zip(images, originals, strict=True)
    ]
    np.testing.assert_allclose(compare(images, originals, [name])[name], theirs, atol=1e-10)


@pytest.mark.parametrize(("height", "width"), [(128, 140), (60, 91), (11, 11), (43, 42)])
def test_reflected_border_equals_torchmetrics(height: int, width: int) -> None:
    images, originals = _photographs(height, width)
    a, b = torch.from_numpy(images).double(), torch.from_numpy(originals).double()
    theirs = structural_similarity_index_measure(a, b, data_range=255.0, reduction="none")
    ours = compare(images, originals, ["ssim-torchmetrics"])["ssim-torchmetrics"]
    np.testing.assert_allclose(ours, theirs, atol=1e-10)


@pytest.mark.parametrize(("height", "width"), [(178, 208), (176, 189)])
def test_ms_ssim_equals_torchmetrics(height: int, width: int) -> None:
    images, originals = _photographs(height, width)
    a, b = torch.from_numpy(images).double(), torch.from_numpy(originals).double()
    theirs = multiscale_structural_similarity_index_measure(a, b, data_range=255.0, reduction="none", normalize="relu")
    ours = compare(images, originals, ["ms-ssim"])["ms-ssim"]
    np.testing.assert_allclose(ours, theirs, atol=1e-10)
    assert ours[2] == 0  # structure that is the opposite counts as none


def test_the_smallest_multiscale_image_is_that_of_torchmetrics() -> None:
    images, originals = _photographs(175, 256)
    assert np.isnan(compare(images, originals, ["ms-ssim"])["ms-ssim"]).all()
    with pytest.raises(ValueError, match="larger than 160"):
        multiscale_structural_similarity_index_measure(
            torch.from_numpy(images).double(), torch.from_numpy(originals).double(), data_range=255.0
        )


def test_luma_variant_equals_its_formula_in_scipy() -> None:
    images, originals = _photographs(96, 130)
    ours = compare(images, originals, ["ssim-pyiqa-y"])["ssim-pyiqa-y"]
    theirs = [_clipped_ssim(_luma(a), _luma(b)) for a, b in zip(images, originals, strict=True)]
    # 1e-4: a luma of exactly one half may round to either side in float32
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert ours[2] >= 0


def _luma(image: Images) -> NDArray[np.float64]:
    luma: NDArray[np.float64] = np.round(255 * rgb2yiq(image.transpose(1, 2, 0) / 255)[..., 0])
    return luma


def _clipped_ssim(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        filtered: NDArray[np.float64] = gaussian_filter(values, 1.5, truncate=3.5)[5:-5, 5:-5]
        return filtered

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    contrast = (2 * (mean(x * y) - mx * my) + c2) / (mean(x * x) - mx**2 + mean(y * y) - my**2 + c2)
    return float(((2 * mx * my + c1) / (mx**2 + my**2 + c1) * np.maximum(contrast, 0)).mean())


@pytest.mark.parametrize(("side", "factor"), [(200, 1), (384, 2)])
def test_piq_pools_large_images_first(side: int, factor: int) -> None:
    images, originals = _photographs(side, side)
    theirs = [
        structural_similarity(
            block_reduce(a / 255, (1, factor, factor), np.mean),
            block_reduce(b / 255, (1, factor, factor), np.mean),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=0,
            data_range=1.0,
        )
        for a, b in zip(images, originals, strict=True)
    ]
    np.testing.assert_allclose(compare(images, originals, ["ssim-piq"])["ssim-piq"], theirs, atol=1e-10)
