"""What an image source offers: labelled or unlabelled uint8 images by index, and a digest of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class ImageSource(Protocol):
    @property
    def name(self) -> str:
        """As written in a suite, for instance "mnist5k/heldout" or "folder:photos"."""
        ...

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of every image."""
        ...

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(N,) class ids, or None."""
        ...

    @property
    def classes(self) -> Mapping[int, str]:
        """Label -> name of the class, in the order of the labels; empty if classes have no names.

        Labels need not be 0, 1, ...: in a folder of some ImageNet classes they are the official ids of these.
        """
        ...

    def __len__(self) -> int: ...

    def keys(self, indices: Sequence[int]) -> list[str]:
        """Relative path, member name or row number of each image: what a person would look for."""
        ...

    def load(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """(n, 3, H, W) RGB images."""
        ...

    def digest(self) -> str:
        """Hex digest of all images and labels in order."""
        ...


class ArraySource:
    """Images held in memory."""

    def __init__(
        self,
        name: str,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64] | None = None,
        classes: Mapping[int, str] | None = None,
    ) -> None:
        self.name = name
        self._images = images
        self.labels = labels
        self.classes: Mapping[int, str] = classes or {}

    @property
    def resolution(self) -> tuple[int, int]:
        return self._images.shape[2], self._images.shape[3]

    def __len__(self) -> int:
        return len(self._images)

    def keys(self, indices: Sequence[int]) -> list[str]:
        return [str(index) for index in checked(indices, len(self), self.name).tolist()]

    def load(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        return self._images[np.asarray(indices, dtype=np.int64)]

    def digest(self) -> str:
        return content_digest(self)


def checked(indices: Sequence[int], count: int, name: str) -> NDArray[np.int64]:
    """(n,) indices below `count`; negative ones count from the end, as in a list. Raises IndexError."""
    wanted = np.asarray(indices, dtype=np.int64)
    if len(wanted) and not (-count <= wanted.min() and wanted.max() < count):
        raise IndexError(f"{name} has {count} images")
    return wanted % count


AT_ONCE = 1 << 27
"""Bytes of pixels that are digested together."""


def content_digest(source: ImageSource, batch: int = 256) -> str:
    """Over the pixels, in order, and the labels: the same for the same images in a folder, in an npz or in memory."""
    digest = hashlib.blake2b(repr((len(source), 3, *source.resolution)).encode(), digest_size=16)
    height, width = source.resolution
    batch = max(1, min(batch, AT_ONCE // (3 * height * width)))
    for start in range(0, len(source), batch):
        digest.update(source.load(range(start, min(start + batch, len(source)))).tobytes())
    if source.labels is not None:
        digest.update(np.ascontiguousarray(source.labels).tobytes())
    return digest.hexdigest()
