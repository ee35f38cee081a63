"""Every resize convention against the tool that it is named after, enlarging and reducing, square and not."""

from __future__ import annotations

import cleanfid.resize
import numpy as np
import pytest
import torch
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchvision.transforms import functional as tv

from arbench.features.networks import resize

pytestmark = pytest.mark.numerical

SIZES = [(32, 32), (256, 256), (299, 299), (512, 512), (300, 333), (77, 640)]


@pytest.fixture(params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def images(request) -> torch.Tensor:
    draw = torch.Generator().manual_seed(request.param[0])
    return torch.randint(0, 256, (2, 3, *request.param), dtype=torch.uint8, generator=draw)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tf1_equals_torch_fidelity_bit_for_bit(images, dtype):
    theirs = interpolate_bilinear_2d_like_tensorflow1x(images.to(dtype), size=(299, 299), align_corners=False)
    ours = resize.tf1_bilinear(images, dtype=dtype)
    assert ours.dtype == dtype
    assert torch.equal(ours, theirs)


def test_tf1_equals_the_formula_in_numpy(images):
    """Scalar float32 arithmetic, a pixel at a time; the formula equals TensorFlow 2.21 bit for bit."""
    height, width = images.shape[2:]
    ours = resize.tf1_bilinear(images).numpy()
    draw = np.random.default_rng(0)
    one = np.float32
    for _ in range(200):
        i, j, plane = draw.integers(299), draw.integers(299), draw.integers(3)
        y, x = one(i) * (one(height) / one(299)), one(j) * (one(width) / one(299))
        top, left = int(y), int(x)
        below, right = min(top + 1, height - 1), min(left + 1, width - 1)
        dy, dx = one(y - one(top)), one(x - one(left))
        p = images[1, plane].numpy().astype(one)
        upper = p[top, left] + (p[top, right] - p[top, left]) * dx
        lower = p[below, left] + (p[below, right] - p[below, left]) * dx
        assert ours[1, plane, i, j] == upper + (lower - upper) * dy


def test_pil_bicubic_equals_clean_fid(images):
    make = cleanfid.resize.build_resizer("clean")
    theirs = np.stack([make(image.permute(1, 2, 0).numpy()) for image in images]).transpose(0, 3, 1, 2)
    ours = resize.pil_bicubic(images).numpy()
    # both sum in float64 and round to float32 twice; a sum in another order may round to the neighbouring number
    assert np.abs(ours - theirs).max() <= 3.1e-5
    assert (ours == theirs).mean() > 0.999
    assert ours.min() >= 0
    assert ours.max() <= 255


def test_pil_bicubic_clips(images):
    black_and_white = (images > 127).to(torch.uint8) * 255
    ours = resize.pil_bicubic(black_and_white)
    assert ours.min() == 0
    if images.shape[2] <= 299:
        assert ours.max() == 255


def test_half_pixel_is_torchs_plain_bilinear(images):
    theirs = torch.stack([tv.to_tensor(image.permute(1, 2, 0).numpy()) for image in images])
    theirs = torch.nn.functional.interpolate(theirs, size=(299, 299), mode="bilinear", align_corners=False)
    assert torch.equal(resize.half_pixel_bilinear(images), theirs)


def test_antialias_equals_torchvisions(images):
    theirs = tv.resize(images.float(), [299, 299], interpolation=tv.InterpolationMode.BILINEAR, antialias=True)
    assert torch.equal(resize.antialias_bilinear(images), theirs)


def test_antialias_is_plain_bilinear_when_enlarging_and_not_when_reducing():
    draw = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=draw)
    large = torch.randint(0, 256, (1, 3, 512, 512), dtype=torch.uint8, generator=draw)
    plain = resize.half_pixel_bilinear(small) * 255
    torch.testing.assert_close(resize.antialias_bilinear(small), plain, atol=1e-3, rtol=0)
    apart = (resize.antialias_bilinear(large) - resize.half_pixel_bilinear(large) * 255).abs().mean()
    assert 20 < apart < 26  # on 512-pixel noise, 23 grey levels


def test_grid_sample_emulates_tf1(images):
    apart = (resize.grid_sample_bilinear(images) - resize.tf1_bilinear(images)).abs()
    # not the same arithmetic: coordinates in float32 on [-1, 1] are coarser, the more so the larger the image
    assert 0 < apart.max() < 2e-2
    assert apart.mean() < 2e-3


@pytest.mark.parametrize(
    "convention",
    [
        resize.tf1_bilinear,
        resize.pil_bicubic,
        resize.half_pixel_bilinear,
        resize.antialias_bilinear,
        resize.grid_sample_bilinear,
    ],
)
def test_an_image_does_not_depend_on_its_batch(convention):
    draw = torch.Generator().manual_seed(0)
    batch = torch.randint(0, 256, (5, 3, 48, 80), dtype=torch.uint8, generator=draw)
    together = convention(batch)
    assert together.shape == (5, 3, 299, 299)
    for i in range(5):
        assert torch.equal(convention(batch[i : i + 1])[0], together[i])
