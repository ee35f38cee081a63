"""Rates and distortion: files of Pillow against Pillow, and tokenizers that lie where they must beside their curves."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity

from arbench.data.readers.mnist import mnist5k
from arbench.tasks.rate import Rate

N = 20
QUALITIES = (10, 50, 75, 80, 90)


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return mnist5k("heldout").load(range(N))


def curve(images: NDArray[np.uint8], form: str, quality: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(bits per pixel, PSNR) of each image, by Pillow and NumPy alone."""
    bits, psnr = [], []
    for image in images:
        file = io.BytesIO()
        picture = np.moveaxis(image, 0, 2)
        Image.fromarray(picture).save(file, format=form, quality=quality)
        decoded = np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB")).astype(float)
        bits.append(8 * len(file.getvalue()) / 1024)
        psnr.append(20 * math.log10(255) - 10 * math.log10(((decoded - picture) ** 2).mean()))
    return np.array(bits), np.array(psnr)


def found(finished, name: str) -> dict[tuple[object, ...], float | None]:
    return {tuple(m.at.values()): m.value for m in finished.metrics if m.name == name}


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_points_are_those_of_pillows_files(cell, through, images, form):
    finished, _ = through(cell("tokenizers/blocks", Rate(n=N, qualities=QUALITIES)))
    for quality in QUALITIES:
        bits, psnr = curve(images, form, quality)
        assert found(finished, "codec-bits")[form, quality] == pytest.approx(bits.mean(), rel=1e-12)
        assert found(finished, "codec-psnr")[form, quality] == pytest.approx(psnr.mean(), abs=1e-4)


def test_likenesses_beside_psnr_are_scikit_images_or_say_what_they_need(cell, through, images):
    """SSIM of JPEG files, and of the tokenizer's images; LPIPS without the network's weights is null."""
    finished, _ = through(cell("tokenizers/jpeg", Rate(n=3, qualities=(10, 75))))
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    for quality in (10, 75):
        values = []
        for image in images[:3]:
            with io.BytesIO() as file:
                Image.fromarray(np.moveaxis(image, 0, 2)).save(file, format="JPEG", quality=quality)
                decoded = np.asarray(Image.open(file).convert("RGB"))
            values.append(structural_similarity(np.moveaxis(image, 0, 2), decoded, channel_axis=2, **settings))
        assert found(finished, "codec-ssim")["JPEG", quality] == pytest.approx(np.mean(values), abs=2e-3)
    assert found(finished, "rate-ssim") == {(): pytest.approx(found(finished, "codec-ssim")["JPEG", 75])}
    lpips = [metric for metric in finished.metrics if metric.name.endswith("lpips")]
    assert {(metric.name, metric.value, metric.reason) for metric in lpips} == {
        ("rate-lpips", None, "no weights of alexnet"),
        ("codec-lpips", None, "no weights of alexnet"),
    }


@pytest.mark.parametrize(("name", "form", "quality"), [("jpeg", "JPEG", 75), ("webp", "WEBP", 80)])
def test_a_codec_is_no_better_than_itself(cell, through, images, name, form, quality):
    finished, _ = through(cell(f"tokenizers/{name}", Rate(n=N, qualities=QUALITIES)))
    bits, psnr = curve(images, form, quality)
    assert found(finished, "bits-per-pixel") == {(): pytest.approx(bits.mean())}
    assert found(finished, "rate-psnr") == {(): pytest.approx(psnr.mean(), abs=1e-4)}
    assert found(finished, "over-codec")[form,] == pytest.approx(0, abs=1e-9)


def test_beside_a_codec_at_the_same_rate(cell, through, images):
    """WebP's tokenizer between JPEG files, by hand."""
    finished, _ = through(cell("tokenizers/jpeg", Rate(n=N, qualities=(1, 40, 95))))
    bits, psnr = curve(images, "JPEG", 75)
    points = [curve(images, "WEBP", quality) for quality in (1, 40, 95)]
    expected = []
    for row in range(N):
        (x0, y0), (x1, y1), (x2, y2) = ((math.log2(size[row]), good[row]) for size, good in points)
        x = math.log2(bits[row])
        if x > x2:
            break
        low, high, below, above = (x0, x1, y0, y1) if x < x1 else (x1, x2, y1, y2)
        expected.append(psnr[row] - (below + (x - low) / (high - low) * (above - below)))
    (over,) = (m for m in finished.metrics if m.name == "over-codec" and m.at["codec"] == "WEBP")
    if len(expected) == N:
        assert over.value == pytest.approx(np.mean(expected), abs=1e-4)
    else:  # JPEG's tables alone take more than these files
        assert over.value is None
        assert "images take" in over.reason


def test_what_has_no_rate_says_so(cell, through):
    finished, _ = through(cell("tokenizers/continuous", Rate(n=2, qualities=(10, 90))))
    for metric in finished.metrics:
        if metric.name in ("bits-per-pixel", "over-codec"):
            assert metric.value is None
            assert "no rate" in metric.reason
    assert found(finished, "rate-psnr")[()] > 0


def test_rates_without_such_a_file_are_null(cell, through):
    """64 tokens of 4 bits for 1024 pixels: a JPEG file's head alone takes more."""
    finished, _ = through(cell("tokenizers/blocks", Rate(n=3, qualities=(1, 95))))
    assert found(finished, "bits-per-pixel") == {(): 0.25}
    reasons = {metric.reason for metric in finished.metrics if metric.name == "over-codec"}
    assert all(reason.startswith("3 of 3 images take 0.25 bits per pixel") for reason in reasons)
