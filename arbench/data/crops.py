"""Image preparation recipes, owned and versioned: how an image of any size becomes a square of the size compared.

The crop alone moves a Frechet distance, so a recipe's name is stored with every reference and compared. A recipe never
changes under its name. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError, UnknownName, UsageError

Resampling = Image.Resampling


def prepare(image: NDArray[np.uint8], recipe: str, size: int) -> NDArray[np.uint8]:
    """(3, size, size) uint8 from (3, H, W) uint8 RGB.

    Raises `UnknownName` for a recipe that is none of `CROPS`, `ImageError` if "none" meets an image of another size.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ImageError("not an RGB image of bytes", f"it is {image.dtype} {image.shape}; (3, H, W) uint8 is needed")
    if size < 1:
        raise UsageError(f"no image has a side of {size}", "", "give the side in pixels, for instance 256")
    picture = find(recipe)(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))), size)
    return np.ascontiguousarray(np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1))


def find(recipe: str) -> Callable[[Image.Image, int], Image.Image]:
    if recipe not in CROPS:
        raise UnknownName("crop", recipe, CROPS, f"use one of {', '.join(CROPS)}")
    return CROPS[recipe]


def adm_center_crop(image: Image.Image, size: int) -> Image.Image:
    """Halved by a box filter while the shorter side is at least twice `size`, then bicubic; crop offset bounded."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def shorter_side(image: Image.Image, side: int, size: int, filter: Resampling) -> Image.Image:
    """Shorter side to `side`, the longer one truncated; crop of `size` at the offset rounded half to even.

    These are torchvision's `Resize(side)` and `CenterCrop(size)` on a PIL image.
    """
    width, height = image.size
    target = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    if target != image.size:
        image = image.resize(target, filter)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def square_then_size(image: Image.Image, size: int, filter: Resampling) -> Image.Image:
    """The central square, at the offset rounded half to even, then resized."""
    short = min(image.size)
    left, top = round((image.width - short) / 2), round((image.height - short) / 2)
    return image.crop((left, top, left + short, top + short)).resize((size, size), filter)


def as_it_is(image: Image.Image, size: int) -> Image.Image:
    if image.size != (size, size):
        raise ImageError(
            f"an image is {image.width} x {image.height} and {size} x {size} is compared",
            'the crop "none" changes nothing',
            "name a crop, for instance adm-center-crop-v1",
        )
    return image


CROPS: Mapping[str, Callable[[Image.Image, int], Image.Image]] = {
    # ADM, DiT, LlamaGen, MAR, xAR, LPD, GigaTok
    "adm-center-crop-v1": adm_center_crop,
    # 1d-tokenizer, MaskBit
    "torchvision-bicubic-v1": lambda image, size: shorter_side(image, size, size, Resampling.BICUBIC),
    # SEED-Voken
    "torchvision-bilinear-v1": lambda image, size: shorter_side(image, size, size, Resampling.BILINEAR),
    # VAR: a narrower field of view
    "var-lanczos-1.125-v1": lambda image, size: shorter_side(image, round(1.125 * size), size, Resampling.LANCZOS),
    # LlamaGen on COCO, GigaGAN
    "square-lanczos-v1": lambda image, size: square_then_size(image, size, Resampling.LANCZOS),
    "none": as_it_is,
}
