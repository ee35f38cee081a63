"""PSNR and SSIM against scikit-image, and the stated policy for identical images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cosine
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from arbench.errors import InputError
from arbench.metrics.paired import feature_cosine, identical, psnr, ssim_gaussian11

Images = NDArray[np.uint8]


def _pairs(count: int, height: int, width: int) -> tuple[Images, Images]:
    draw = np.random.default_rng(height * width)
    smooth = np.cumsum(draw.integers(-9, 10, (count, 3, height, width)), axis=-1) + 128
    images = np.clip(smooth, 0, 255).astype(np.uint8)
    noise = draw.integers(-25, 26, images.shape) * draw.integers(0, 2, (count, 1, 1, 1))  # some pairs are identical
    return np.clip(images + noise, 0, 255).astype(np.uint8), images


@pytest.mark.parametrize(("count", "height", "width"), [(6, 32, 32), (3, 11, 11), (3, 40, 57), (2, 200, 96)])
def test_ssim_equals_scikit_image(count: int, height: int, width: int) -> None:
    images, originals = _pairs(count, height, width)
    theirs = [
        structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=0, data_range=255
        )
        for a, b in zip(images, originals, strict=True)
    ]
    np.testing.assert_allclose(ssim_gaussian11(images, originals), theirs, atol=1e-9)


def test_psnr_equals_scikit_image_per_image() -> None:
    draw = np.random.default_rng(0)
    images, originals = draw.integers(0, 256, (2, 5, 3, 24, 32), dtype=np.uint8)
    theirs = [peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(images, originals, strict=True)]
    np.testing.assert_allclose(psnr(images, originals), theirs, rtol=1e-12)


def test_identical_images_have_the_psnr_of_one_value_off_by_one_and_are_told_apart() -> None:
    originals = np.random.default_rng(0).integers(1, 255, (2, 3, 32, 32), dtype=np.uint8)
    images = originals.copy()
    images[1, 0, 0, 0] += 1
    values = psnr(images, originals)
    assert values[0] == values[1] == pytest.approx(10 * math.log10(255**2 * 3 * 32 * 32))
    assert identical(images, originals).tolist() == [True, False]
    assert ssim_gaussian11(images, originals)[0] == pytest.approx(1, abs=1e-12)


def test_values_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    images, originals = _pairs(7, 20, 20)
    whole = psnr(images, originals), ssim_gaussian11(images, originals)
    monkeypatch.setattr("arbench.metrics.paired.CHUNK_VALUES", 2500)
    np.testing.assert_array_equal(psnr(images, originals), whole[0])
    np.testing.assert_array_equal(ssim_gaussian11(images, originals), whole[1])


def test_feature_cosine() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.random((4, 9)).astype(np.float32), draw.random((4, 9)).astype(np.float32)
    theirs = [cosine(x.astype(np.float64), y.astype(np.float64)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(feature_cosine(a, b), theirs, rtol=1e-9)
    np.testing.assert_allclose(feature_cosine(a, 3 * a), 0, atol=1e-12)
    zero = np.zeros((1, 9))
    assert feature_cosine(zero, a[:1]).tolist() == [1.0]
    assert feature_cosine(zero, zero).tolist() == [0.0]


def test_no_pairs_give_no_values() -> None:
    none = np.zeros((0, 3, 32, 32), dtype=np.uint8)
    assert psnr(none, none).shape == ssim_gaussian11(none, none).shape == identical(none, none).shape == (0,)


def test_what_cannot_be_compared_is_refused() -> None:
    images, _ = _pairs(2, 16, 16)
    with pytest.raises(InputError, match="one shape"):
        psnr(images, images[:1])
    with pytest.raises(InputError, match="uint8"):
        psnr(images / 255, images / 255)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 11 x 11"):
        ssim_gaussian11(images[:, :, :10], images[:, :, :10])
    with pytest.raises(InputError, match="paired features"):
        feature_cosine(np.zeros((2, 3)), np.zeros((2, 4)))
