"""Pillow's resize by products, as it runs on a device, against the Pillow that is installed: the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from arbench.features.networks import clip, pil_resize
from arbench.features.networks.pil_resize import by_products, order_of, resized

pytestmark = pytest.mark.numerical

SIZES = [(256, 256), (32, 32), (512, 384), (300, 451), (77, 200), (400, 90), (224, 224), (224, 300), (300, 224)]
"""Enlarged and reduced, more in one direction than in the other, and left as it is in one or both."""


def images(height: int, width: int, count: int = 4) -> torch.Tensor:
    """Noise, black and white noise, one colour, and a slope."""
    draw = torch.Generator().manual_seed(height * width)
    noise = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=draw)
    noise[1] = (noise[1] > 127) * 255
    noise[2] = 201
    noise[3] = torch.linspace(0, 255, width).round()
    return noise


@pytest.mark.parametrize("filter", ["bicubic", "lanczos"])
@pytest.mark.parametrize("size", SIZES)
def test_products_give_pillows_bytes(size: tuple[int, int], filter: pil_resize.Filter) -> None:
    given = images(*size)
    order = order_of(size, (224, 224), filter)
    assert order is not None, "no order of Pillow's: the device path would never be used"
    theirs = [
        np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).resize((224, 224), pil_resize._PIL[filter]))
        for image in given
    ]
    ours = by_products(given, (224, 224), filter, order)
    assert ours.dtype == torch.uint8
    np.testing.assert_array_equal(ours.permute(0, 2, 3, 1), np.stack(theirs))


def test_many_sizes() -> None:
    draw = np.random.RandomState(0)
    for _ in range(60):
        height, width, *size = draw.randint(1, 90, 4).tolist()
        given = images(height, width)
        order = order_of((height, width), tuple(size), "bicubic")
        assert order is not None, (height, width, size)
        host = resized(given, tuple(size))
        assert torch.equal(by_products(given, tuple(size), "bicubic", order), host), (height, width, size)


def test_a_box_is_a_crop_of_the_whole() -> None:
    given = images(50, 70)
    whole = resized(given, (40, 60))
    assert torch.equal(resized(given, (40, 60), box=(7, 3, 47, 33)), whole[..., 3:33, 7:47])
    assert torch.equal(by_products(given, (40, 60), "bicubic", "across", (7, 3, 47, 33)), whole[..., 3:33, 7:47])


@pytest.mark.parametrize("step", ["clean", "hf", "llamagen", "cmmd"])
@pytest.mark.parametrize("size", [(256, 256), (90, 65), (64, 64), (50, 33), (130, 67)])
def test_the_steps_of_clip_are_the_same_by_products(
    step: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = images(*size)
    host = clip.STEPS[step](given, 64)
    used = []

    def products(images: torch.Tensor, size: tuple[int, int], filter: pil_resize.Filter = "bicubic", box=None):  # type: ignore[no-untyped-def]
        used.append(filter)
        return pil_resize.on_device(images, size, filter, box)

    monkeypatch.setattr(clip, "resized", products)
    assert torch.equal(clip.STEPS[step](given, 64), host)
    assert used == (["lanczos", "bicubic"] if step == "llamagen" else ["bicubic"])


def test_a_pillow_that_rounds_otherwise_keeps_its_own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What neither order reproduces is not done by products."""
    by_pillow = pil_resize._by_pillow

    def other(picture: Image.Image, *rest: object) -> Image.Image:
        return Image.eval(by_pillow(picture, *rest), lambda level: level ^ 1)  # type: ignore[arg-type]

    order_of.cache_clear()
    monkeypatch.setattr(pil_resize, "_by_pillow", other)
    assert order_of((31, 17), (20, 20), "bicubic") is None
    assert pil_resize.on_device(images(31, 17), (20, 20)) is None
    order_of.cache_clear()


def test_large_sets_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def noted(part: torch.Tensor, *rest: object) -> torch.Tensor:
        taken.append(len(part))
        return part

    monkeypatch.setattr(pil_resize, "by_products", noted)
    monkeypatch.setattr(pil_resize, "order_of", lambda *_: "across")
    monkeypatch.setattr(pil_resize, "PIXELS", 2 * 3 * 10 * 10)
    on_device = torch.zeros(5, 3, 10, 10, dtype=torch.uint8, device="meta")
    assert resized(on_device, (10, 10)).shape == on_device.shape
    assert taken == [2, 2, 1]
