"""Arrays of images on disk, npz and npy, and the sources held in memory, as readers: row by row, never whole."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..indexed import ImageSource
from .ahead import Item, Shard, damaged
from .decode import Decoded
from .npz import DAMAGE, NpzSource, RowLayout, read_header, row_layout


class NpzReader:
    """ADM's layout. A whole pass reads through zipfile, which compares the checksum; a shard of stored rows seeks."""

    classes: tuple[str, ...] = ()

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._source = NpzSource(name, path)
        self.count = len(self._source)

    def items(self, shard: Shard) -> Iterator[Item]:
        labels = self._source.labels
        if self._source.stored and not shard.whole:
            yield from _rows(self._path, self._source.start(), self._source.layout, labels, shard)
            return
        layout = self._source.layout
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open("arr_0.npy") as member:
                read_header(member)
                for index in range(self.count):
                    if shard.past(index):
                        return
                    data = member.read(layout.row_bytes)
                    if len(data) != layout.row_bytes:
                        raise EOFError("arr_0 ends too early")
                    if shard.wants(index):
                        yield _item(index, partial(_decoded, layout, data), labels)
                member.read(1)  # at its end zipfile compares the checksum
        except DAMAGE as error:
            raise damaged(str(self._path), error) from error


class NpyReader:
    """One uint8 array (N, H, W, C) or (N, C, H, W), C = 3 or 1, in C order."""

    classes: tuple[str, ...] = ()

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        try:
            with path.open("rb") as file:
                shape, fortran, dtype = read_header(file)
                self._start = file.tell()
        except PermissionError as error:
            raise InputError(f"cannot read {path}", error.strerror or str(error), "check its permissions") from error
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{path} is no npy, or is damaged", str(error), "write or copy it again") from error
        self._layout = row_layout(str(path), shape, fortran, dtype)
        self.count = shape[0]
        size, expected = path.stat().st_size, self._start + shape[0] * self._layout.row_bytes
        if size != expected:
            raise InputError(
                f"{path} is damaged", f"it should take {expected} bytes and takes {size}", "write or copy it again"
            )

    def items(self, shard: Shard) -> Iterator[Item]:
        return _rows(self._path, self._start, self._layout, None, shard)


class SourceReader:
    """A source that gives images by index, such as MNIST-5k; several are one after another."""

    classes: tuple[str, ...] = ()

    def __init__(self, name: str, sources: list[ImageSource]) -> None:
        self.name = name
        self._sources = sources
        self.count = sum(map(len, sources))

    def items(self, shard: Shard) -> Iterator[Item]:
        start = 0
        for source in self._sources:
            for index in shard.indices(self.count):
                if start <= index < start + len(source):
                    place = index - start
                    label = None if source.labels is None else int(source.labels[place])
                    yield Item(index, str(index), partial(_loaded, source, place), label)
            start += len(source)


def _loaded(source: ImageSource, place: int) -> Decoded:
    return Decoded(source.load([place])[0])


def _rows(path: Path, start: int, layout: RowLayout, labels: NDArray[np.int64] | None, shard: Shard) -> Iterator[Item]:
    """Rows that lie in a file as they are, each read by the thread that wants it.

    Reading, not mapping: the pages of a mapped file count as this process's memory.
    """
    for index in shard.indices(layout.shape[0]):
        yield _item(index, partial(_read_row, path, start + index * layout.row_bytes, layout), labels)


def _item(index: int, decode: partial[Decoded], labels: NDArray[np.int64] | None) -> Item:
    return Item(index, str(index), decode, None if labels is None else int(labels[index]))


def _read_row(path: Path, offset: int, layout: RowLayout) -> Decoded:
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            data = file.read(layout.row_bytes)
        if len(data) != layout.row_bytes:
            raise EOFError("it ends too early")
    except (OSError, EOFError) as error:
        raise damaged(str(path), error) from error
    return _decoded(layout, data)


def _decoded(layout: RowLayout, data: bytes) -> Decoded:
    return Decoded(layout.image(data), ("grey",) if layout.grey else ())
