"""Crop recipes against torchvision's transforms on PIL, and ADM's against a separate description of it in steps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from arbench.data.crops import CROPS, prepare
from arbench.errors import ImageError, UnknownName, UsageError

SHAPES = [(40, 40), (97, 61), (61, 97), (200, 131), (300, 140), (131, 129), (33, 90)]
SIZE = 64


def picture(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """(3, H, W): smooth waves with noise, so that a shift by a pixel or another filter shows."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = [np.sin(rows / 5 + k) + np.cos(columns / (3 + k)) for k in range(3)]
    noise = np.random.default_rng(shape[0]).normal(0, 0.3, (3, *shape))
    return np.clip((np.stack(waves) + noise) * 50 + 128, 0, 255).astype(np.uint8)


def pil(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def box_halves(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means of pairs of columns, then of rows, each rounded half up to a byte: the box filter on even sides."""
    wide = image.astype(np.int64)
    columns = (wide[:, :, 0::2] + wide[:, :, 1::2] + 1) // 2
    return ((columns[:, 0::2] + columns[:, 1::2] + 1) // 2).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("recipe", "side", "filter"),
    [
        ("torchvision-bicubic-v1", SIZE, InterpolationMode.BICUBIC),
        ("torchvision-bilinear-v1", SIZE, InterpolationMode.BILINEAR),
        ("var-lanczos-1.125-v1", 72, InterpolationMode.LANCZOS),
    ],
)
def test_as_torchvision_on_pil(shape: tuple[int, int], recipe: str, side: int, filter: InterpolationMode) -> None:
    image = picture(shape)
    reference = transforms.Compose([transforms.Resize(side, interpolation=filter), transforms.CenterCrop(SIZE)])
    expected = np.asarray(reference(pil(image))).transpose(2, 0, 1)
    np.testing.assert_array_equal(prepare(image, recipe, SIZE), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_square_by_lanczos_is_that_of_torchvision(shape: tuple[int, int]) -> None:
    """LlamaGen's evaluation on COCO: the central square by torchvision, resized by PIL."""
    image = picture(shape)
    square = transforms.functional.center_crop(pil(image), min(shape))
    expected = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    np.testing.assert_array_equal(prepare(image, "square-lanczos-v1", SIZE), expected)


@pytest.mark.parametrize("shape", [(256, 256), (512, 256), (256, 512), (1024, 640 * 2)])
def test_adm_halves_by_means_of_neighbours(shape: tuple[int, int]) -> None:
    """Even sides: the halving is checked in integers, with no resizing of PIL's in the reference but the last one."""
    image = picture(shape)
    halved = image
    while min(halved.shape[1:]) >= 2 * SIZE:
        halved = box_halves(halved)
    height, width = halved.shape[1:]
    scale = SIZE / min(height, width)
    final = pil(halved).resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    array = np.asarray(final)
    top, left = (array.shape[0] - SIZE) // 2, (array.shape[1] - SIZE) // 2
    expected = array[top : top + SIZE, left : left + SIZE].transpose(2, 0, 1)
    np.testing.assert_array_equal(prepare(image, "adm-center-crop-v1", SIZE), expected)


def test_adm_crop_offset_is_rounded_down_and_torchvisions_is_not() -> None:
    """64 x 67 leaves 3 columns: ADM starts at 1, torchvision at 2 (1.5 rounded to even)."""
    image = picture((64, 67))
    np.testing.assert_array_equal(prepare(image, "adm-center-crop-v1", SIZE), image[:, :, 1:65])
    np.testing.assert_array_equal(prepare(image, "torchvision-bicubic-v1", SIZE), image[:, :, 2:66])


def test_adm_does_not_halve_below_twice_the_size() -> None:
    below, above = picture((127, 127)), picture((128, 128))
    direct = pil(below).resize((64, 64), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(prepare(below, "adm-center-crop-v1", 64), np.asarray(direct).transpose(2, 0, 1))
    np.testing.assert_array_equal(prepare(above, "adm-center-crop-v1", 64), box_halves(above))


@pytest.mark.parametrize("recipe", [name for name in CROPS if name != "var-lanczos-1.125-v1"])
def test_an_image_of_the_size_is_left_alone(recipe: str) -> None:
    image = picture((SIZE, SIZE))
    prepared = prepare(image, recipe, SIZE)
    np.testing.assert_array_equal(prepared, image)
    assert prepared.shape == (3, SIZE, SIZE)
    assert prepared.flags["C_CONTIGUOUS"]


def test_the_recipes_differ_from_each_other() -> None:
    """Else a mismatch of crops could not matter."""
    image = picture((200, 131))
    results = [prepare(image, recipe, SIZE) for recipe in CROPS if recipe != "none"]
    for place, one in enumerate(results):
        for other in results[place + 1 :]:
            assert np.abs(one.astype(int) - other.astype(int)).mean() > 0.1


def test_errors() -> None:
    with pytest.raises(ImageError, match="40 x 30 and 64 x 64"):
        prepare(picture((30, 40)), "none", SIZE)
    with pytest.raises(UnknownName, match="adm-center-crop-v1"):
        prepare(picture((30, 40)), "adm-centre-crop-v1", SIZE)
    with pytest.raises(UsageError):
        prepare(picture((30, 40)), "adm-center-crop-v1", 0)
    with pytest.raises(ImageError, match="float64"):
        prepare(picture((30, 40)).astype(np.float64), "none", SIZE)  # type: ignore[arg-type]
