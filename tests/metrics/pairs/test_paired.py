"""Paired metrics against scikit-image, the policy for identical images, and many metrics from one pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cosine
from skimage import data
from skimage.color import rgb2yiq
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from arbench.errors import InputError, UnknownName
from arbench.metrics.pairs.backbones import NEEDS
from arbench.metrics.pairs.paired import METRICS, compare, feature_cosine

pytestmark = pytest.mark.numerical

Images = NDArray[np.uint8]


def psnr(images: Images, originals: Images) -> NDArray[np.float64]:
    return compare(images, originals, ["psnr"])["psnr"]


def ssim_gaussian11(images: Images, originals: Images) -> NDArray[np.float64]:
    return compare(images, originals, ["ssim-gaussian11"])["ssim-gaussian11"]


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
    assert compare(images, originals, ["identical"])["identical"].tolist() == [1, 0]
    assert ssim_gaussian11(images, originals)[0] == pytest.approx(1, abs=1e-12)


def test_values_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    images, originals = _pairs(7, 20, 20)
    whole = psnr(images, originals), ssim_gaussian11(images, originals)
    monkeypatch.setattr("arbench.metrics.pairs.paired.CHUNK_VALUES", 2500)
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
    assert psnr(none, none).shape == ssim_gaussian11(none, none).shape == (0,)


def test_what_cannot_be_compared_is_refused() -> None:
    images, _ = _pairs(2, 16, 16)
    with pytest.raises(InputError, match="one shape"):
        psnr(images, images[:1])
    with pytest.raises(InputError, match="uint8"):
        psnr(images / 255, images / 255)  # type: ignore[arg-type]
    assert np.isnan(ssim_gaussian11(images[:, :, :10], images[:, :, :10])).all()
    with pytest.raises(InputError, match="paired features"):
        feature_cosine(np.zeros((2, 3)), np.zeros((2, 4)))


def _astronaut() -> tuple[Images, Images]:
    """A crop of a photograph with noise of standard deviation 0.05, (1, 3, 256, 256) each."""
    original = data.astronaut()[:256, :256]
    noisy = original + 255 * 0.05 * np.random.default_rng(0).standard_normal(original.shape)
    return _batch(np.clip(np.round(noisy), 0, 255).astype(np.uint8)), _batch(original)


def _batch(image: Images) -> Images:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def test_conventions_disagree_on_a_noisy_photograph_as_published_tools_do() -> None:
    # values that the tools themselves gave; the noise they were given is known but for its seed
    expected = {
        "ssim-uniform7": 0.577,
        "ssim-uniform7-range2": 0.740,
        "ssim-torchmetrics": 0.553,
        "ssim-pyiqa-y": 0.691,
    }
    values = compare(*_astronaut(), [*expected, "psnr", "psnr-y"])
    for name, value in expected.items():
        assert values[name][0] == pytest.approx(value, abs=0.0015), name
    assert values["psnr"][0] == pytest.approx(26.30, abs=0.01)
    assert values["psnr-y"][0] == pytest.approx(29.83, abs=0.01)


def test_psnr_variants_are_their_formulas() -> None:
    images, originals = _pairs(5, 24, 32)
    mse = ((images / 255 - originals / 255) ** 2).mean((1, 2, 3))
    luma = [rgb2yiq(image.transpose(1, 2, 0) / 255)[..., 0] for image in (*images, *originals)]
    luma_mse = np.array([((a - b) ** 2).mean() for a, b in zip(luma[:5], luma[5:], strict=True)])
    values = compare(images, originals, ["psnr-eps1e-8", "psnr-eps1e-10", "psnr-y", "psnr-pooled", "mse", "mse-255"])
    np.testing.assert_allclose(values["psnr-eps1e-8"], 10 * np.log10(1 / (mse + 1e-8)), rtol=1e-12)
    np.testing.assert_allclose(values["psnr-eps1e-10"], 10 * np.log10(1 / (mse + 1e-10)), rtol=1e-12)
    np.testing.assert_allclose(values["psnr-y"], 10 * np.log10(1 / (luma_mse + 1e-8)), rtol=1e-6)  # float32 luma
    np.testing.assert_allclose(values["psnr-pooled"], mse * 255**2, rtol=1e-12)
    np.testing.assert_allclose(values["mse"], mse, rtol=1e-12)
    np.testing.assert_allclose(values["mse-255"], mse * 255**2, rtol=1e-12)


def test_l1_is_the_mean_absolute_error() -> None:
    images, originals = _pairs(4, 16, 24)
    error = np.abs(images.astype(float) - originals).mean((1, 2, 3))
    values = compare(images, originals, ["l1", "l1-255", "identical"])
    np.testing.assert_allclose(values["l1-255"], error, rtol=1e-12)
    np.testing.assert_allclose(values["l1"], error / 255, rtol=1e-12)
    np.testing.assert_array_equal(values["identical"], error == 0)


def test_metrics_together_equal_each_alone() -> None:
    images, originals = _pairs(3, 180, 176)
    names = [name for name in METRICS if name not in NEEDS]
    together = compare(images, torch.from_numpy(originals), names)
    assert list(together) == names
    for name in names:
        assert together[name].dtype == np.float64
        alone = compare(images, originals, [name])[name]
        np.testing.assert_allclose(together[name], alone, rtol=1e-12, err_msg=name)


def test_a_value_depends_on_its_own_pair_alone() -> None:
    images, originals = _pairs(5, 40, 40)
    names = ["psnr", "ssim-uniform7", "ssim-torchmetrics", "ssim-pyiqa-y"]
    whole = compare(images, originals, names)
    for index in range(5):
        one = compare(images[index : index + 1], originals[index : index + 1], names)
        for name in names:
            assert one[name][0] == pytest.approx(whole[name][index], rel=1e-14), name


def test_images_too_small_for_a_metric_have_no_value() -> None:
    images, originals = _pairs(2, 64, 64)
    values = compare(images, originals, ["ms-ssim", "psnr", "ssim-torchmetrics"])
    assert np.isnan(values["ms-ssim"]).all()
    assert np.isfinite([values["psnr"], values["ssim-torchmetrics"]]).all()
    tiny = compare(images[..., :6, :6], originals[..., :6, :6], ["ssim-uniform7", "lpips-vgg"])
    assert np.isnan([tiny["ssim-uniform7"], tiny["lpips-vgg"]]).all()


def test_feature_cosine_of_more_than_a_block() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.random((2501, 3)).astype(np.float32), draw.random((2501, 3)).astype(np.float32)
    assert feature_cosine(a, b)[-1] == pytest.approx(cosine(a[-1].astype(float), b[-1].astype(float)))
    assert feature_cosine(a[:0], b[:0]).shape == (0,)


def test_unknown_metrics_and_missing_networks_are_named() -> None:
    images, originals = _pairs(1, 32, 32)
    with pytest.raises(UnknownName, match="ssim-uniform7"):
        compare(images, originals, ["ssim-uniform"])
    with pytest.raises(InputError, match="needs a network"):
        compare(images, originals, ["lpips-alex"])
