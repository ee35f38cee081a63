"""Python objects as readers: a torch Dataset or any sequence, a DataLoader, an iterator. Imports no torch."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import ImageError
from .ahead import Header, Item, Shard
from .decode import BadImage, Decoded, decode, from_pil, pil_error
from .foreign import QUANTISE
from .tables import IMAGE_NAMES, LABEL_NAMES


class SequenceReader:
    """Anything with a length and items by number; only the wanted ones are asked for.

    An item is an image, (image, label, ...), or a dictionary with an image and perhaps a label. An image is a uint8
    tensor or array (3, H, W), (H, W, 3) or with one channel, or a Pillow image, or the bytes of a file. Items are
    fetched in the consumer's thread, since few datasets may be used by several at once.
    """

    classes: Mapping[int, str] = {}
    passed_over: Mapping[str, int] = {}
    seeks = True
    portable = False

    def __init__(self, name: str, items: Any, key: str | None = None) -> None:
        self.name = name
        self._items = items
        self._key = key
        self.count = len(items)
        if not self.count:
            raise ImageError(f"{name} is empty", "", "give it images")
        if getattr(items, "ndim", 0) == 3:
            raise ImageError(
                f"{name} is not an array of images",
                f"its shape is {tuple(items.shape)}: one image, or grey ones without an axis for their channel",
                "give images[None] of one image, images[..., None] of grey ones",
            )

    def items(self, shard: Shard) -> Iterator[Item]:
        for index in shard.indices(self.count):
            try:
                found = self._items[index]
            except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises
                yield Item(index, str(index), partial(_raise, pil_error(error)))
                continue
            image, label = _parts(self.name, index, found, self._key)
            yield _item(self.name, index, image, label)

    def headers(self, limit: int | None) -> Iterator[Header]:
        """Asks for every item once: only that gives the labels."""
        for item in self.items(Shard(limit=limit)):
            try:
                height, width = item.decode().image.shape[1:]
                yield Header(item.key, item.label, (height, width))
            except BadImage as error:
                yield Header(item.key, item.label, bad=error.detail)


class IterableReader:
    """Images one after another, or batches (n, 3, H, W), as a DataLoader gives them, with (n,) labels or none.

    A generator can be read once; other iterables, such as a list or a DataLoader, are read anew each time.
    """

    count: int | None = None
    classes: Mapping[int, str] = {}
    passed_over: Mapping[str, int] = {}
    portable = False

    def __init__(self, name: str, items: Iterable[Any], key: str | None = None) -> None:
        self.name = name
        self._items = items
        self._key = key
        self._read = False

    def items(self, shard: Shard) -> Iterator[Item]:
        once = isinstance(self._items, Iterator)
        if once and self._read:
            raise ImageError(
                f"{self.name} has been read already", "an iterator gives its images once", "make a new one"
            )
        self._read = True
        index = 0
        if shard.past(index):
            return
        for found in self._items:
            for image, label in _unbatched(*_parts(self.name, index, found, self._key)):
                if shard.wants(index):
                    yield _item(self.name, index, image, label)
                index += 1
            if shard.past(index):  # before the next one is made: that may cost a sample
                return
        if not index:
            raise ImageError(f"{self.name} gave no images", "", "check what makes them")


def shuffled(source: object) -> bool:
    """Whether it is a DataLoader that gives its images in another order each time."""
    return type(getattr(source, "sampler", None)).__name__ == "RandomSampler"


def _parts(name: str, index: int, found: Any, key: str | None) -> tuple[Any, Any]:
    """Image and label of one item; the label may be None or of any kind."""
    if isinstance(found, Mapping):
        image = key if key is not None else next((known for known in IMAGE_NAMES if known in found), None)
        if image is None or image not in found:
            wanted = f"no {key!r}" if key is not None else "no image by a known name"
            raise ImageError(f"item {index} of {name} has {wanted}", f"it has {', '.join(map(str, found))}", "give key")
        return found[image], next((found[known] for known in LABEL_NAMES if known in found), None)
    if isinstance(found, tuple | list):
        if not found:
            raise ImageError(f"item {index} of {name} is empty", "expected (image, label)", "")
        second = found[1] if len(found) > 1 else None
        if isinstance(found, list) and (isinstance(second, Image.Image | bytes) or getattr(second, "ndim", 0) > 2):
            raise ImageError(
                f"item {index} of {name} is a list of images",
                "a list is taken for [image, label]",
                "give them one by one, or as one array (n, 3, H, W)",
            )
        return found[0], second
    return found, None


def _unbatched(images: Any, labels: Any) -> Iterator[tuple[Any, Any]]:
    if getattr(images, "ndim", 0) != 4:
        yield images, labels
        return
    if hasattr(images, "detach"):
        images = images.detach().cpu()  # at once, not row by row
    several = labels is not None and hasattr(labels, "__len__") and len(labels) == len(images)
    for row in range(len(images)):
        yield images[row], labels[row] if several else None


def _item(name: str, index: int, image: Any, label: Any) -> Item:
    """Pixels are taken now: a dataset may hand out the same buffer again."""
    work, held = _pixels(name, index, image)
    return Item(index, str(index), work, _label(label), held)


def _label(label: Any) -> int | None:
    """An integer of Python, NumPy or torch; anything else (a caption, a box) is not a label."""
    try:
        return operator.index(label)
    except (TypeError, ValueError, RuntimeError):
        return None


def _pixels(name: str, index: int, image: Any) -> tuple[partial[Decoded], int]:
    """What gives the pixels, and how many bytes it holds."""
    if isinstance(image, bytes | bytearray | memoryview):
        return partial(decode, bytes(image)), len(image)
    if isinstance(image, Image.Image):
        try:
            decoded = from_pil(image)
        except BadImage as error:
            return partial(_raise, error), 0
        except Exception as error:  # a lazily opened file, read only now
            return partial(_raise, pil_error(error)), 0
        return partial(_same, decoded), decoded.image.nbytes
    kind = str(getattr(image, "dtype", type(image).__name__)).removeprefix("torch.")
    if kind != "uint8":
        floating = "float" in kind
        raise ImageError(
            f"item {index} of {name} is not a uint8 image",
            f"it is {kind}{'; how floats are rounded changes metrics' if floating else ''}",
            QUANTISE if floating else "give uint8 tensors or arrays, Pillow images, or (image, label)",
        )
    array = np.array(image.detach().cpu().numpy() if hasattr(image, "detach") else image)
    planes, converted = _planes(name, index, array)
    return partial(_same, Decoded(planes, converted)), planes.nbytes


def _planes(name: str, index: int, array: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """(3, H, W) from (H, W), (H, W, C) or (C, H, W), C = 1 or 3; if both could be C, the last one is."""
    shape = array.shape
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and shape[2] in (1, 3):
        array = array.transpose(2, 0, 1)
    if array.ndim != 3 or array.shape[0] not in (1, 3) or not array.size:
        raise ImageError(
            f"item {index} of {name} is not an image", f"its shape is {shape}", "give (3, H, W) or (H, W, 3), uint8"
        )
    grey = array.shape[0] == 1
    planes = np.repeat(array, 3, axis=0) if grey else np.ascontiguousarray(array)
    return planes, ("grey",) if grey else ()


def _same(decoded: Decoded) -> Decoded:
    return decoded


def _raise(error: BadImage) -> Decoded:
    raise error
