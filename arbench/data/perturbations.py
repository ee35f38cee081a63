"""Small changes of images (bytes) that a stable tokenizer should hardly notice."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Images = NDArray[np.uint8]
NOISE_LEVELS = 2.0
"""Standard deviation of the noise, in levels of 255."""
JPEG_QUALITY = 90
BLUR_RADIUS = 0.5
"""Standard deviation of the blur in pixels."""
CROP = 1 / 32
"""Share of the side that is cut off at each edge."""


def noisy(images: Images, normals: NDArray[np.floating[Any]]) -> Images:
    """Images (n, 3, H, W) with `normals` of the same shape, times `NOISE_LEVELS`, added and rounded."""
    return np.clip(np.rint(images + NOISE_LEVELS * normals), 0, 255).astype(np.uint8)


def shifted(images: Images, pixels: int) -> Images:
    """Moved to the right, the left edge repeated."""
    if pixels >= images.shape[-1]:
        raise ValueError(f"images of width {images.shape[-1]} cannot be moved by {pixels}")
    return np.concatenate([np.repeat(images[..., :1], pixels, axis=-1), images[..., : images.shape[-1] - pixels]], -1)


def jpeg(images: Images) -> Images:
    """Through a JPEG file of quality `JPEG_QUALITY` with Pillow's defaults."""

    def through(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
        return Image.open(buffer).convert("RGB")

    return _each(images, through)


def blurred(images: Images) -> Images:
    return _each(images, lambda image: image.filter(ImageFilter.GaussianBlur(BLUR_RADIUS)))


def cropped(images: Images) -> Images:
    """Without `CROP` of the side at each edge (a pixel at least), bicubic back to the size."""
    height, width = images.shape[-2:]
    edge = max(1, round(CROP * min(height, width)))
    box = (edge, edge, width - edge, height - edge)
    return _each(images, lambda image: image.crop(box).resize((width, height), Image.Resampling.BICUBIC))


def flipped(images: Images) -> Images:
    """Left and right exchanged."""
    return np.ascontiguousarray(images[..., ::-1])


PERTURBATIONS: Mapping[str, Callable[[Images], Images]] = {
    "shift by a pixel": lambda images: shifted(images, 1),
    f"JPEG {JPEG_QUALITY}": jpeg,
    f"blur {BLUR_RADIUS:g}": blurred,
    "crop": cropped,
}
"""Those without noise."""
NOISE = f"noise {NOISE_LEVELS:g}/255"


def _each(images: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    rows = [np.asarray(change(Image.fromarray(image.transpose(1, 2, 0)))) for image in images]
    return np.ascontiguousarray(np.stack(rows).transpose(0, 3, 1, 2))
