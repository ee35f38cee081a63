"""Arrays of images as readers: npz in the layout of ADM's evaluator, npy, and sources held in memory.

Rows are read one by one as they are asked for, never the whole array.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError, InputError
from ...limits import BYTES_PER_PIXEL, how_to_raise, max_pixels
from ...npy_files import NPZ_DAMAGE, npy_header, read_member
from ..indexed import ImageSource
from ..statistics.pickles import moments_in
from .ahead import AGAIN, Header, Item, Shard, damaged
from .budget import reserve
from .decode import Decoded
from .foreign import SAVED, advice, refuse_statistics

IMAGES, LABELS = "arr_0.npy", "arr_1.npy"


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Of an array of images: (N, H, W, C) or (N, C, H, W), C = 1 or 3; if both axes could be C, the last one is."""

    shape: tuple[int, int, int, int]

    @property
    def channels_last(self) -> bool:
        return self.shape[3] in (1, 3)

    @property
    def grey(self) -> bool:
        return self.shape[3 if self.channels_last else 1] == 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[1:3] if self.channels_last else self.shape[2:4]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:])

    def decode(self, data: bytes) -> Decoded:
        """(3, H, W) from the bytes of one row."""
        height, width = self.size
        reserve(3 * height * width)
        row = np.frombuffer(data, dtype=np.uint8).reshape(self.shape[1:])
        image = row.transpose(2, 0, 1) if self.channels_last else row
        if self.grey:
            return Decoded(np.repeat(image, 3, axis=0), ("grey",))
        return Decoded(np.ascontiguousarray(image))


IN_ORDER = "numpy.save(FILE, numpy.ascontiguousarray(images))"


def as_labels(given: NDArray[np.integer[Any]], path: Path) -> NDArray[np.int64]:
    """Integer labels. Raises `ImageError` for one that would come out as a negative number."""
    labels = given.astype(np.int64)
    if given.dtype.kind == "u":
        for wrong in given[labels < 0]:
            raise too_large_label(int(wrong), path)
    return labels


def too_large_label(label: int, path: Path) -> ImageError:
    return ImageError(f"{label} is not a label of an image, in {path}", "labels are below 2**63", "save class ids")


def row_layout(
    what: str, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any], in_order: str = IN_ORDER
) -> RowLayout:
    """Raises `ImageError` unless the header is that of uint8 images in C order; `in_order` says how to make them so."""
    if dtype.hasobject:
        raise ImageError(f"{what} holds pickled objects", "they are never unpickled", SAVED)
    channels = len(shape) == 4 and (shape[3] in (1, 3) or shape[1] in (1, 3))
    if dtype != np.uint8 or not channels or fortran:
        order = ", not in C order" if fortran else ""
        raise ImageError(
            f"{what} is not an array of images",
            f"it is {dtype} {shape}{order}; images are uint8 (N, H, W, 3) or (N, 3, H, W)",
            in_order if fortran and channels else advice(shape, str(dtype)),
        )
    if 0 in shape:
        raise ImageError(f"{what} holds no images", f"it has shape {shape}")
    layout = RowLayout((shape[0], shape[1], shape[2], shape[3]))
    height, width = layout.size
    if height * width > (bound := max_pixels()):
        why = f"{width} x {height} pixels; the bound is {bound}"
        raise ImageError(f"the images of {what} are too large", why, how_to_raise(height * width * BYTES_PER_PIXEL))
    return layout


class NpzReader:
    """`arr_0` is (N, H, W, C) or (N, C, H, W) with C = 3, or 1 for grey; `arr_1`, if there, (N,) integer labels.

    A pass from the start reads through zipfile, which compares the checksum; a part of stored rows seeks.
    """

    classes: Mapping[int, str] = {}
    passed_over: Mapping[str, int] = {}
    portable = False

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        if not path.is_file():
            what = f"{path} is not a file" if path.exists() else f"no file at {path}"
            raise InputError(what, f"asked for as {name!r}", "check the path")
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
                if IMAGES not in members:
                    if {"mu.npy", "sigma.npy"} <= set(members):
                        refuse_statistics(path)
                    found = ", ".join(member.removesuffix(".npy") for member in members) or "nothing"
                    raise ImageError(
                        f"{path} has no arr_0", f"it holds {found}", "numpy.savez(FILE, images) names its array arr_0"
                    )
                self.layout, self.seeks = self._read_layout(archive)
                self._labels = self._read_labels(archive) if LABELS in members else None
                self._start = self._first_row(archive)
        except PermissionError as error:
            raise InputError(f"cannot read {path}", error.strerror or str(error), "check its permissions") from error
        except NPZ_DAMAGE as error:
            raise ImageError(
                f"{path} is not an npz file, or is damaged", f"{type(error).__name__}: {error}", AGAIN
            ) from error
        self.count = self.layout.shape[0]

    def _read_layout(self, archive: zipfile.ZipFile) -> tuple[RowLayout, bool]:
        """Of `arr_0`, and whether it is stored uncompressed."""
        info = archive.getinfo(IMAGES)
        with archive.open(info) as file:
            shape, fortran, dtype = npy_header(file)
            offset = file.tell()
        layout = row_layout(f"arr_0 of {self._path}", shape, fortran, dtype)
        size = offset + layout.shape[0] * layout.row_bytes
        if size != info.file_size:
            raise ValueError(f"arr_0 should take {size} bytes and takes {info.file_size}")
        return layout, info.compress_type == zipfile.ZIP_STORED

    def _read_labels(self, archive: zipfile.ZipFile) -> NDArray[np.int64]:
        with archive.open(LABELS) as file:
            shape, _, dtype = npy_header(file)
        count = self.layout.shape[0]
        if dtype.kind not in "iu" or shape != (count,):
            raise ImageError(
                f"arr_1 of {self._path} is not an array of labels",
                f"it is {dtype} {shape}; labels are integers ({count},)",
                "save one class id per image as arr_1, or leave it out",
            )
        return as_labels(read_member(archive, archive.getinfo(LABELS), f"arr_1 of {self._path}"), self._path)

    def _first_row(self, archive: zipfile.ZipFile) -> int:
        """Where the first row of a stored `arr_0` begins in the file, in bytes."""
        with archive.open(IMAGES) as member:
            npy_header(member)
            header = member.tell()
        local = archive.getinfo(IMAGES).header_offset
        with self._path.open("rb") as file:
            file.seek(local)
            fixed = file.read(30)  # the local header; its name and extra field may differ from the directory's
        return local + 30 + int.from_bytes(fixed[26:28], "little") + int.from_bytes(fixed[28:30], "little") + header

    def headers(self, limit: int | None) -> Iterator[Header]:
        return array_headers(self.layout, self._labels, limit)

    def items(self, shard: Shard) -> Iterator[Item]:
        if self.seeks and not shard.whole:
            yield from array_rows(self._path, self._start, self.layout, self._labels, shard)
            return
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(IMAGES) as member:
                npy_header(member)
                for index in range(self.count):
                    if shard.past(index):
                        return
                    data = member.read(self.layout.row_bytes)
                    if len(data) != self.layout.row_bytes:
                        raise EOFError("arr_0 ends too early")
                    if index == self.count - 1:
                        member.read(1)  # at its end zipfile compares the checksum
                    if shard.wants(index):
                        yield _item(index, partial(self.layout.decode, data), self._labels, len(data))
        except NPZ_DAMAGE as error:
            raise damaged(str(self._path), error) from error


class NpyReader:
    """One uint8 array (N, H, W, C) or (N, C, H, W), C = 3 or 1, in C order."""

    classes: Mapping[int, str] = {}
    passed_over: Mapping[str, int] = {}
    seeks = True
    portable = False

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        try:
            with path.open("rb") as file:
                shape, fortran, dtype = npy_header(file)
                self._start = file.tell()
        except PermissionError as error:
            raise InputError(f"cannot read {path}", error.strerror or str(error), "check its permissions") from error
        except FileNotFoundError as error:
            raise InputError(f"no file at {path}", f"asked for as {name!r}", "check the path") from error
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{path} is not an npy file, or is damaged", str(error), AGAIN) from error
        if dtype.hasobject and moments_in(path) is not None:
            refuse_statistics(path)
        self._layout = row_layout(str(path), shape, fortran, dtype)
        self.count = shape[0]
        size, expected = path.stat().st_size, self._start + shape[0] * self._layout.row_bytes
        if size != expected:
            raise InputError(f"{path} is damaged", f"it should take {expected} bytes and takes {size}", AGAIN)

    def headers(self, limit: int | None) -> Iterator[Header]:
        return array_headers(self._layout, None, limit)

    def items(self, shard: Shard) -> Iterator[Item]:
        return array_rows(self._path, self._start, self._layout, None, shard)


class SourceReader:
    """Sources that give images by index, such as MNIST-5k, one after another."""

    passed_over: Mapping[str, int] = {}
    seeks = True
    portable = False

    def __init__(self, name: str, sources: Sequence[ImageSource]) -> None:
        self.name = name
        self.sources = sources
        self.count = sum(map(len, sources))
        self.classes = sources[0].classes

    def headers(self, limit: int | None) -> Iterator[Header]:
        for index in Shard(limit=limit).indices(self.count):
            source, place = self._find(index)
            yield Header(source.keys([place])[0], _label(source.labels, place), source.resolution)

    def items(self, shard: Shard) -> Iterator[Item]:
        for index in shard.indices(self.count):
            source, place = self._find(index)
            yield Item(index, source.keys([place])[0], partial(_loaded, source, place), _label(source.labels, place))

    def _find(self, index: int) -> tuple[ImageSource, int]:
        for source in self.sources:
            if index < len(source):
                return source, index
            index -= len(source)
        raise IndexError(index)


def array_headers(layout: RowLayout, labels: NDArray[np.int64] | None, limit: int | None) -> Iterator[Header]:
    for index in Shard(limit=limit).indices(layout.shape[0]):
        yield Header(str(index), _label(labels, index), layout.size)


def array_rows(
    path: Path, start: int, layout: RowLayout, labels: NDArray[np.int64] | None, shard: Shard
) -> Iterator[Item]:
    """Rows that lie in a file as they are, each read by the thread that wants it.

    Reading, not mapping: the pages of a mapped file count as this process's memory.
    """
    for index in shard.indices(layout.shape[0]):
        yield _item(index, partial(_read_row, path, start + index * layout.row_bytes, layout), labels)


def _item(index: int, decode: partial[Decoded], labels: NDArray[np.int64] | None, held: int = 0) -> Item:
    return Item(index, str(index), decode, _label(labels, index), held)


def _label(labels: NDArray[np.int64] | None, index: int) -> int | None:
    return None if labels is None else int(labels[index])


def _read_row(path: Path, offset: int, layout: RowLayout) -> Decoded:
    reserve(layout.row_bytes)
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            data = file.read(layout.row_bytes)
        if len(data) != layout.row_bytes:
            raise EOFError("it ends too early")
    except (OSError, EOFError) as error:
        raise damaged(str(path), error) from error
    return layout.decode(data)


def _loaded(source: ImageSource, place: int) -> Decoded:
    return Decoded(source.load([place])[0])
