"""The one boundary between float images and bytes: quantisation, digests, PNG grids, the shard codec."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .npy_files import NpzArrays

if TYPE_CHECKING:
    from torch import Tensor

Quantisation = Literal["round", "truncate"]


def to_uint8(images: Tensor, quantisation: Quantisation = "round") -> Tensor:
    """uint8 from float images in [0, 1] (clamped), same shape; "round" is round-half-up, so k/255 comes back as k."""
    import torch

    scaled = images.float().clamp(0, 1) * 255
    return (scaled + 0.5 if quantisation == "round" else scaled).floor().to(torch.uint8)


def to_float(images: NDArray[np.uint8]) -> Tensor:
    """float32 in [0, 1] from uint8, same shape."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images)).float() / 255


def digests(images: NDArray[np.uint8]) -> list[str]:
    """One hex digest (blake2b, 16 bytes) per image of (N, 3, H, W), over its shape and pixels."""
    return [digest(image) for image in images]


def digest(image: NDArray[np.uint8]) -> str:
    """The same of one image (3, H, W)."""
    found = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    found.update(np.ascontiguousarray(image).reshape(-1).data)  # read in place; other threads run meanwhile
    return found.hexdigest()


def grid(images: NDArray[np.uint8], columns: int, gap: int = 2, background: int = 255) -> NDArray[np.uint8]:
    """(H', W', 3): images (N, 3, H, W) laid out row by row with `gap` pixels between them."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), background, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return sheet


def png(sheet: NDArray[np.uint8], scale: int = 1) -> bytes:
    """PNG bytes of an (H, W, 3) image, enlarged by whole pixels."""
    picture = Image.fromarray(sheet)
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def pack(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """An uncompressed npz of plain arrays (no objects)."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes, names: Sequence[str] | None = None) -> dict[str, NDArray[np.generic]]:
    """The arrays of an npz, all of them or those named. Raises `InputError` beyond the bound of `limits`."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        arrays = NpzArrays(archive, "the file")
        return {name: arrays[name] for name in (names or arrays)}
