"""Pillow's resize of 8-bit images: by Pillow itself, or on a device by two products with whole numbers, to the bit.

Pillow (`Resample.c`) resizes bytes in one direction, rounds to bytes, then resizes in the other. Its weights are whole
numbers in units of 2^-22, so that every sum is a whole number below 2^53: float64 products give it exactly, in whatever
order they add. Which direction goes first depends on Pillow's version and on the sizes; it is asked of Pillow itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Filter = Literal["bicubic", "lanczos"]
Order = Literal["across", "down"]
"""Which direction is resized first."""
Size = tuple[int, int]
"""Height and width."""
Box = tuple[int, int, int, int]
"""Left, top, right and bottom of what is kept of a result, as PIL's `crop` takes it."""
BITS = 22
"""Of a weight behind the point: Pillow's 32 less 8 of a pixel and 2 for what overshoots."""
FROM = 4
"""Images of one size from which a device is used: the weights of a new size cost as much as two images in Pillow."""
PIXELS = 1 << 27
"""Values of images whose products are taken at a time: 1 GB as float64."""
_PIL = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def resized(images: Tensor, size: Size, filter: Filter = "bicubic", box: Box | None = None) -> Tensor:
    """uint8 (n, c, h, w) of uint8 (n, 3, H, W), on the same device: `size` by PIL's `resize`, then `crop(box)`.

    On a CPU, for few images, and where products do not give what the Pillow that is installed gives, Pillow does it.
    """
    if images.device.type != "cpu" and len(images) >= FROM:
        found = on_device(images, size, filter, box)
        if found is not None:
            return found
    pictures = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    changed = np.stack([np.asarray(_by_pillow(Image.fromarray(each), size, filter, box)) for each in pictures])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).to(images.device)


def on_device(images: Tensor, size: Size, filter: Filter = "bicubic", box: Box | None = None) -> Tensor | None:
    """As `resized`, on the device of `images` whatever it is; None where products do not give Pillow's bytes."""
    order = order_of((images.shape[2], images.shape[3]), size, filter)
    if order is None:
        return None
    part = max(1, PIXELS // images[0].numel())
    parts = (images[start : start + part] for start in range(0, len(images), part))
    return torch.cat([by_products(each, size, filter, order, box) for each in parts])


def _by_pillow(picture: Image.Image, size: Size, filter: Filter, box: Box | None) -> Image.Image:
    if picture.size != size[::-1]:
        picture = picture.resize(size[::-1], _PIL[filter])
    return picture if box is None or box == (0, 0, *picture.size) else picture.crop(box)


@functools.lru_cache(maxsize=256)
def order_of(source: Size, size: Size, filter: Filter) -> Order | None:
    """The order in which products give, of an image of noise, the bytes of the Pillow that is installed; None: neither.

    Black and white pixels overshoot the most, and two roundings in another order differ all over such an image.
    """
    noise = np.random.RandomState(0).randint(0, 2, (*source, 3)).astype(np.uint8) * 255
    theirs = torch.from_numpy(np.array(_by_pillow(Image.fromarray(noise), size, filter, None))).permute(2, 0, 1)
    images = torch.from_numpy(noise).permute(2, 0, 1)[None]
    orders: tuple[Order, ...] = ("across", "down")
    return next((order for order in orders if torch.equal(by_products(images, size, filter, order)[0], theirs)), None)


def by_products(images: Tensor, size: Size, filter: Filter, order: Order, box: Box | None = None) -> Tensor:
    """As `resized`, by products on the device of `images`, of which only what `box` keeps is computed."""
    height, width = images.shape[2:]
    left, top, right, bottom = box or (0, 0, size[1], size[0])

    def across(given: Tensor) -> Tensor:
        if size[1] == width:  # Pillow leaves a direction out in which nothing changes
            return given[..., left:right]
        return _rounded(given.double() @ _weights(width, size[1], filter, images.device)[:, left:right])

    def down(given: Tensor) -> Tensor:
        if size[0] == height:
            return given[..., top:bottom, :]
        return _rounded(_weights(height, size[0], filter, images.device)[:, top:bottom].T @ given.double())

    return down(across(images)) if order == "across" else across(down(images))


def _rounded(sums: Tensor) -> Tensor:
    """Bytes of sums in units of 2^-BITS, half rounded up; overwrites them."""
    return sums.add_(1 << (BITS - 1)).mul_(2.0**-BITS).floor_().clamp_(0, 255).to(torch.uint8)


@functools.lru_cache(maxsize=64)
def _weights(source: int, size: int, filter: Filter, device: torch.device) -> Tensor:
    """(source, size) whole numbers as float64: the filter widened by the factor when reducing, its sum 2^BITS."""
    kernel, radius = _KERNELS[filter]
    scale = source / size
    stretch = max(scale, 1.0)
    reach, narrow = radius * stretch, 1.0 / stretch
    matrix = np.zeros((source, size))
    for column in range(size):
        centre = (column + 0.5) * scale
        first = max(int(centre - reach + 0.5), 0)
        last = min(int(centre + reach + 0.5), source)
        weights = [kernel((place + first - centre + 0.5) * narrow) for place in range(last - first)]
        total = 0.0
        for weight in weights:  # one after another, as Pillow adds them: `sum` compensates
            total += weight
        matrix[first:last, column] = [int(math.copysign(0.5, each) + each / total * (1 << BITS)) for each in weights]
    return torch.from_numpy(matrix).to(device)


def _bicubic(x: float) -> float:
    """Keys' cubic convolution kernel, a = -1/2."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2 else 0.0


def _lanczos(x: float) -> float:
    """The sinc, windowed by the first three lobes of a wider one."""
    return _sinc(x) * _sinc(x / 3) if -3 <= x < 3 else 0.0


def _sinc(x: float) -> float:
    return math.sin(x * math.pi) / (x * math.pi) if x else 1.0


_KERNELS: dict[Filter, tuple[Callable[[float], float], float]] = {
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
"""Filter -> kernel, and how far it reaches in pixels."""
