"""Reconstruction presets against the library calls that each repository makes on its own arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from arbench.errors import UnknownName
from arbench.evaluate.paired_conventions import CONVENTIONS, find, quantise, requantised
from arbench.features.recipes import RECIPES
from arbench.metrics.pairs.paired import METRICS, compare

pytestmark = pytest.mark.numerical


def _originals() -> Tensor:
    """(2, 3, 64, 80) uint8."""
    crops = [image[100:164, 200:280] for image in (data.astronaut(), data.coffee())]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def _decoded(originals: Tensor) -> Tensor:
    """What a decoder might give on [-1, 1]: noisy, a little out of range."""
    noise = torch.randn(originals.shape, generator=torch.Generator().manual_seed(0))
    return originals / 127.5 - 1 + 0.1 * noise


def _images(x: Tensor) -> list[np.ndarray]:
    return list(x.permute(0, 2, 3, 1).numpy())


def test_llamagen() -> None:
    originals, convention = _originals(), find("llamagen")
    decoded = _decoded(originals)
    theirs_bytes = torch.clamp(127.5 * decoded + 128.0, 0, 255).to(torch.uint8)
    bytes_ = quantise(decoded, "round-half-up")
    assert torch.equal(bytes_, theirs_bytes)
    truth = _images((((originals.float() / 255 - 0.5) / 0.5) + 1) / 2)  # as their loader and their loop leave it
    restored = [image.astype(np.float32) / 255.0 for image in _images(theirs_bytes)]
    ours = compare(bytes_, convention.originals(originals), convention.metrics.values())
    expected = [peak_signal_noise_ratio(a, b) for a, b in zip(restored, truth, strict=True)]
    np.testing.assert_allclose(ours[convention.metrics["psnr"]], expected, rtol=1e-6)  # theirs are float32
    expected = [
        structural_similarity(a, b, data_range=2.0, channel_axis=-1) for a, b in zip(restored, truth, strict=True)
    ]
    np.testing.assert_allclose(ours[convention.metrics["ssim"]], expected, atol=1e-5)
    assert METRICS[convention.metrics["ssim"]].flags == convention.flags == ("data_range_2",)


def test_seed_voken() -> None:
    originals, convention = _originals(), find("seed-voken")
    decoded = _decoded(originals)
    source = torch.from_numpy((originals.numpy() / 127.5 - 1.0).astype(np.float32))
    truth_bytes = ((source + 1) / 2 * 255.0).to(torch.uint8)
    restored_bytes = ((decoded.clamp(-1, 1) + 1) / 2 * 255.0).to(torch.uint8)
    assert torch.equal(quantise(decoded, "truncate"), restored_bytes)
    assert torch.equal(convention.originals(originals), truth_bytes)
    assert not torch.equal(truth_bytes, originals)
    ours = compare(restored_bytes, convention.originals(originals), ["psnr", "ssim-uniform7"])
    truth, restored = (
        [image.astype(np.float32) / 255.0 for image in _images(x)] for x in (truth_bytes, restored_bytes)
    )
    pairs = list(zip(restored, truth, strict=True))
    expected = [structural_similarity(a, b, data_range=1.0, channel_axis=-1) for a, b in pairs]
    np.testing.assert_allclose(ours[convention.metrics["ssim"]], expected, atol=1e-5)
    expected = [peak_signal_noise_ratio(b, a) for a, b in pairs]
    np.testing.assert_allclose(ours[convention.metrics["psnr"]], expected, rtol=1e-6)


def test_1d_tokenizer() -> None:
    convention = find("1d-tokenizer")
    y = torch.linspace(-0.1, 1.1, 100_001)
    rounded = torch.round(torch.clamp(y, 0.0, 1.0) * 255.0) / 255.0
    assert torch.equal(quantise(y, "round-truncate-unit"), (rounded * 255).to(torch.uint8))
    assert (convention.recipe, convention.splits, dict(convention.metrics)) == ("inception/tf1-float64", 1, {})


def test_maskbit() -> None:
    originals, convention = _originals(), find("maskbit")
    fake, real = quantise(_decoded(originals) / 2 + 0.5, "truncate-unit"), convention.originals(originals)
    x, y = fake.double() / 255, real.double() / 255
    ours = compare(fake, real, [name for name in convention.metrics.values() if not name.startswith("lpips")])
    mse = (x - y).pow(2).mean((1, 2, 3))
    similarity = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    np.testing.assert_allclose(ours[convention.metrics["psnr"]], 10 * torch.log10(1 / (mse + 1e-10)), rtol=1e-12)
    np.testing.assert_allclose(ours[convention.metrics["ssim"]], similarity, atol=1e-10)
    np.testing.assert_allclose(ours[convention.metrics["mse"]], mse, rtol=1e-12)
    np.testing.assert_allclose(ours[convention.metrics["mae"]], (x - y).abs().mean((1, 2, 3)), rtol=1e-12)


def test_lightningdit() -> None:
    originals, convention = _originals(), find("lightningdit")
    bytes_ = quantise(_decoded(originals), "round-half-up")
    ours = compare(bytes_, originals, [convention.metrics["psnr"], convention.metrics["ssim"]])
    pairs = zip(bytes_.numpy(), originals.numpy(), strict=True)
    expected = [peak_signal_noise_ratio(b, a, data_range=255) for a, b in pairs]
    np.testing.assert_allclose(ours[convention.metrics["psnr"]], expected, rtol=1e-12)
    floats = bytes_.double() / 127.5 - 1, originals.double() / 127.5 - 1
    similarity = structural_similarity_index_measure(*floats, data_range=(-1.0, 1.0), reduction="none")
    np.testing.assert_allclose(ours[convention.metrics["ssim"]], similarity, atol=1e-10)


@pytest.mark.parametrize(
    ("ingest", "rule", "changed"),
    [
        ("(v/255-.5)/.5", "round-half-up", 0),
        ("v/127.5-1", "round-half-up", 0),
        ("(v/255-.5)/.5", "round", 0),
        ("v/255", "truncate-unit", 0),
        ("v/255", "round-truncate-unit", 0),
        ("(v/255-.5)/.5", "truncate-127.5", 63),
        ("(v/255-.5)/.5", "truncate", 63),
        ("v/127.5-1", "truncate", 95),
    ],
)
def test_how_many_grey_levels_do_not_come_back(ingest: str, rule: str, changed: int) -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    there_and_back = requantised(levels, ingest, rule)
    assert int((there_and_back != levels).sum()) == changed
    assert int((there_and_back.int() - levels.int()).abs().max()) <= 1


@pytest.mark.parametrize("rule", ["round-half-up", "round", "truncate", "truncate-127.5"])
def test_rules_clamp_what_is_out_of_range(rule: str) -> None:
    assert quantise(torch.tensor([-9.0, -1.0, 1.0, 9.0]), rule).tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("name", CONVENTIONS)
def test_presets_name_what_exists(name: str) -> None:
    convention = find(name)
    assert set(convention.metrics.values()) <= METRICS.keys()
    assert convention.recipe in RECIPES
    with pytest.raises(TypeError):
        convention.metrics["psnr"] = "psnr-y"  # type: ignore[index]


def test_unknown_names_are_named() -> None:
    with pytest.raises(UnknownName, match="llamagen"):
        find("llamagem")
    with pytest.raises(UnknownName, match="round-half-up"):
        quantise(torch.zeros(1), "round-half-down")
    with pytest.raises(UnknownName, match="v/255"):
        requantised(torch.zeros(1, dtype=torch.uint8), "v/256", "round")
