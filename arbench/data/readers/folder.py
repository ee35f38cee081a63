"""A folder of images as a source: found recursively, read when asked for, sub-folders as classes.

How pixels become RGB is said in `arbench.data.readers.decode`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError, InputError
from ..indexed import content_digest
from .decode import BadImage, decode_file, header_size
from .listing import SUFFIXES, class_names, find_files, natural

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
        self._files = [folder / name for name in sorted(find_files(folder, SUFFIXES), key=natural)]
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
        names = class_names(part[0] for part in parts)
        ids = {text: index for index, text in enumerate(names)}
        return names, np.array([ids[part[0]] for part in parts], dtype=np.int64)

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


def _size(file: Path) -> tuple[int, int] | str:
    """(height, width) from the header, or what is wrong."""
    try:
        return header_size(file)
    except BadImage as error:
        return f"{file.name}: {error.detail}"


def _pixels(file: Path) -> NDArray[np.uint8] | str:
    """(3, H, W) RGB, or what is wrong."""
    try:
        return decode_file(file).image
    except BadImage as error:
        return f"{file.name}: {error.detail}"


def _problem(file: Path) -> str:
    found = _pixels(file)
    return found if isinstance(found, str) else ""
