"""A folder of images as a source: found recursively, read when asked for, sub-folders as classes.

How pixels become RGB: grey is repeated in all three channels, palettes are expanded, an alpha channel is laid over
white, CMYK is converted by Pillow's formula without a colour profile, 16-bit grey keeps its upper 8 bits, an animation
gives its first frame. EXIF rotation is ignored, as by every metric tool.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import ImageError, InputError
from .sources import content_digest

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
READABLE = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I"})
"""Pillow's modes; "I" is how its older versions open a 16-bit grey PNG."""
SHOWN = 5
"""Files named in a message; the rest are counted."""


class FolderSource:
    """The images below `folder`, in natural order of their relative paths ("2.png" before "10.png").

    If `folder` has sub-folders with images, each is a class (ids in natural order, names in `classes`) and no image may
    lie beside them. Names that begin with a dot or "__" are passed over.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        if not folder.is_dir():
            what = f"{folder} is no folder" if folder.exists() else f"no folder at {folder}"
            raise InputError(what, f"asked for as {name!r}", "check the path")
        self._folder = folder
        self._files = sorted(_images(folder), key=lambda file: _natural(file.relative_to(folder)))
        if not self._files:
            raise ImageError(
                f"no images in {folder}",
                f"looked for {', '.join(sorted(SUFFIXES))}, sub-folders included",
                "check the path",
            )
        self.classes, self.labels = self._classes()
        self.resolution = self._one_size()
        self._digest = ""

    def _classes(self) -> tuple[tuple[str, ...], NDArray[np.int64] | None]:
        parts = [file.relative_to(self._folder).parts for file in self._files]
        nested = sum(len(part) > 1 for part in parts)
        if not nested:
            return (), None
        if nested < len(parts):
            beside = next(file for file, part in zip(self._files, parts, strict=True) if len(part) == 1)
            raise ImageError(
                f"{self._folder} holds images and sub-folders with images",
                f"sub-folders are classes, and {beside.name} lies in none",
                "move it into a class's folder, or name one sub-folder as the source",
            )
        names = sorted({part[0] for part in parts}, key=lambda text: _natural(Path(text)))
        ids = {text: index for index, text in enumerate(names)}
        return tuple(names), np.array([ids[part[0]] for part in parts], dtype=np.int64)

    def _one_size(self) -> tuple[int, int]:
        """Height and width of all images, from their headers."""
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(_size, self._files))
        self._refuse_broken([entry for entry in found if isinstance(entry, str)], len(found))
        sizes = Counter(entry for entry in found if not isinstance(entry, str))
        if len(sizes) > 1:
            counts = [f"{width} x {height} ({count} images)" for (height, width), count in sizes.most_common(SHOWN)]
            more = f" and {len(sizes) - SHOWN} more sizes" if len(sizes) > SHOWN else ""
            raise ImageError(
                f"the images in {self._folder} differ in size",
                ", ".join(counts) + more,
                "crop or resize them to one size first; how that is done changes every metric",
            )
        return next(iter(sizes))

    def __len__(self) -> int:
        return len(self._files)

    def load(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(_pixels, [self._files[index] for index in indices]))
        self._refuse_broken([entry for entry in found if isinstance(entry, str)], len(found))
        images = [entry for entry in found if not isinstance(entry, str)]
        if not images:
            return np.zeros((0, 3, *self.resolution), dtype=np.uint8)
        return np.stack(images)

    def digest(self) -> str:
        """As everywhere over the pixels: it reads every image, and if one is broken it names and counts them all."""
        if not self._digest:
            try:
                self._digest = content_digest(self)
            except ImageError:
                with ThreadPoolExecutor() as pool:
                    broken = [message for message in pool.map(_problem, self._files) if message]
                self._refuse_broken(broken, len(self))
                raise
        return self._digest

    def _refuse_broken(self, messages: Sequence[str], of: int) -> None:
        if not messages:
            return
        more = f"; and {len(messages) - SHOWN} more" if len(messages) > SHOWN else ""
        raise ImageError(
            f"{len(messages)} of {of} images in {self._folder} cannot be read",
            "; ".join(messages[:SHOWN]) + more,
            "mend or remove them",
        )


def _images(folder: Path) -> Iterator[Path]:
    """Image files below `folder`, links to folders included; a folder that cannot be listed is an error."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"cannot list {error.filename}", error.strerror or str(error), "check its permissions"
        ) from error

    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        here = Path(place).resolve()
        below = [name for name in folders if not name.startswith((".", "__"))]
        folders[:] = [name for name in below if not here.is_relative_to(Path(place, name).resolve())]  # a link upwards
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith((".", "__")):
                yield Path(place, name)


def _natural(path: Path) -> list[tuple[tuple[int, int, str], ...]]:
    """Sort key: runs of digits compare as numbers, and come before letters."""
    return [
        tuple(
            (0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in re.split(r"(\d+)", part) if piece
        )
        for part in path.parts
    ]


def _size(file: Path) -> tuple[int, int] | str:
    """(height, width) from the header, or what is wrong."""
    try:
        with Image.open(file) as image:
            if image.mode not in READABLE:
                return f"{file.name}: pixels of kind {image.mode}, which have no 8-bit meaning"
            return image.height, image.width
    except Exception as error:  # Pillow's decoders raise of every kind on a damaged file
        return _wrong(file, error)


def _pixels(file: Path) -> NDArray[np.uint8] | str:
    """(3, H, W) RGB, or what is wrong."""
    try:
        with Image.open(file) as image:
            return np.ascontiguousarray(_rgb(image).transpose(2, 0, 1))
    except Exception as error:
        return _wrong(file, error)


def _problem(file: Path) -> str:
    found = _pixels(file)
    return found if isinstance(found, str) else ""


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3)."""
    if image.mode.startswith("I"):
        grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def _wrong(file: Path, error: Exception) -> str:
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return f"{file.name}: {'not an image' if isinstance(error, UnidentifiedImageError) else reason}"
