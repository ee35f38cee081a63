"""Files that Pillow writes of images, as bytes, and the images that they hold."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CODECS = ("JPEG", "WEBP")


def through(images: NDArray[np.uint8], codec: str, quality: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Bytes (n,) of the files of images (n, 3, H, W), with Pillow's defaults, and the images (n, 3, H, W) in them."""
    sizes, decoded = [], []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(file, codec, quality=quality)
        sizes.append(file.tell())
        decoded.append(np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1))
    return np.array(sizes, np.int64), np.stack(decoded)
