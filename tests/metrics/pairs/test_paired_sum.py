"""Corpus values of paired metrics: their intervals, and that parts merge to the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from arbench.errors import InputError
from arbench.metrics.estimate import mean_with_interval, share
from arbench.metrics.pairs.paired import compare
from arbench.metrics.pairs.paired_sum import PairedSum, corpus

pytestmark = pytest.mark.numerical


def test_a_mean_has_the_interval_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(30, 4, 500)
    ours, plain = corpus("psnr", values), mean_with_interval(values)
    assert (ours.method, ours.n) == ("t", 500)
    assert (ours.value, ours.low, ours.high) == pytest.approx((plain.value, plain.low, plain.high), rel=1e-12)


def test_pooled_psnr_equals_torchmetrics_over_images_of_two_sizes() -> None:
    draw = np.random.default_rng(0)
    total, squares, pixels = PairedSum("psnr-pooled"), 0.0, 0
    for count, height, width in ((3, 20, 30), (2, 11, 64)):
        a, b = draw.integers(0, 256, (2, count, 3, height, width), dtype=np.uint8)
        values = compare(a, b, ["psnr-pooled"])["psnr-pooled"]
        total = total.add(values, 3 * height * width)
        theirs = peak_signal_noise_ratio(torch.from_numpy(a).double(), torch.from_numpy(b).double(), data_range=255.0)
        assert corpus("psnr-pooled", values).value == pytest.approx(float(theirs), rel=1e-6)  # float32 logarithm
        squares += float(((a.astype(float) - b) ** 2).sum())
        pixels += a.size
    assert total.estimate().value == pytest.approx(10 * np.log10(255**2 / (squares / pixels)), rel=1e-12)


def test_pooled_psnr_is_below_the_mean_of_psnrs() -> None:
    mse = np.array([10.0, 100.0, 1000.0])
    pooled = corpus("psnr-pooled", mse).value
    assert pooled is not None
    assert pooled < (10 * np.log10(255**2 / mse)).mean()


@pytest.mark.parametrize("sizes", [False, True])
def test_the_interval_of_the_pooled_psnr_is_that_of_a_jackknife(sizes: bool) -> None:
    draw = np.random.default_rng(1)
    mse = draw.gamma(3, 40, 800)
    pixels = draw.integers(1000, 9000, 800).astype(float) if sizes else np.ones(800)
    estimate = corpus("psnr-pooled", mse, pixels)
    squares, total = (mse * pixels).sum() - mse * pixels, pixels.sum() - pixels
    left_out = 10 * np.log10(255**2 / (squares / total))
    error = np.sqrt(799 / 800 * ((left_out - left_out.mean()) ** 2).sum())
    assert estimate.method == "delta"
    assert estimate.high is not None
    assert estimate.low is not None
    assert estimate.high - estimate.low == pytest.approx(2 * 1.963 * error, rel=0.02)  # 1.963: t with 799 degrees


@pytest.mark.parametrize("name", ["psnr", "psnr-pooled", "identical"])
@pytest.mark.parametrize("shards", [1, 3, 8])
def test_merged_parts_in_any_order_give_the_same_numbers(name: str, shards: int) -> None:
    draw = np.random.default_rng(2)
    values, pixels = draw.gamma(3, 40, 100), draw.integers(1000, 9000, 100)
    if name == "identical":
        values = (values > 100).astype(float)
    parts = [PairedSum(name).add(values[index::shards], pixels[index::shards]) for index in range(shards)]
    merged = PairedSum(name)
    for index in draw.permutation(shards):
        merged = merged.merge(parts[index])
    whole = corpus(name, values, pixels)
    joined = corpus(name, merged)
    assert joined.n == whole.n == 100
    assert (joined.value, joined.low, joined.high) == pytest.approx((whole.value, whole.low, whole.high), rel=1e-11)


def test_a_share_has_wilsons_interval() -> None:
    assert corpus("identical", np.array([1.0, 0, 0, 1])) == share(2, 4)


def test_flags_of_the_metric_are_on_the_number() -> None:
    assert corpus("ssim-uniform7-range2", np.array([0.7, 0.8])).flags == ("data_range_2",)
    assert corpus("ssim-uniform7-range2", np.array([0.7])).flags == ("data_range_2", "no_interval")
    assert corpus("ssim-uniform7", np.array([0.7, 0.8])).flags == ()


def test_no_value_comes_with_its_reason() -> None:
    small = corpus("ms-ssim", np.array([0.9, np.nan]))
    assert (small.value, small.n) == (None, 2)
    assert "at least 176" in small.reason
    assert corpus("psnr", np.zeros(0)).reason == "no values"
    assert "infinite" in corpus("psnr-pooled", np.zeros(3)).reason
    assert PairedSum("ms-ssim").add([np.nan]).merge(PairedSum("ms-ssim").add([0.5])).estimate().value is None


def test_sums_of_different_metrics_do_not_mix() -> None:
    with pytest.raises(InputError, match="psnr and ms-ssim"):
        PairedSum("psnr").merge(PairedSum("ms-ssim"))
    with pytest.raises(InputError, match="sums of psnr"):
        corpus("ms-ssim", PairedSum("psnr"))
