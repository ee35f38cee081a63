"""An npz of images as a source, in the layout of ADM's evaluator: `arr_0` uint8 images, `arr_1` labels if any.

Memory stays low: a member stored as is (`numpy.savez`) is mapped; a compressed one is read forwards as it is asked for.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ...errors import ImageError, InputError
from ..indexed import content_digest

DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, NotImplementedError)
"""What zipfile and NumPy raise on a file that is cut short or altered."""


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
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64))

    def image(self, data: bytes) -> NDArray[np.uint8]:
        """(3, H, W) from the bytes of one row."""
        row = np.frombuffer(data, dtype=np.uint8).reshape(self.shape[1:])
        image = row.transpose(2, 0, 1) if self.channels_last else row
        return np.repeat(image, 3, axis=0) if self.grey else np.ascontiguousarray(image)


def row_layout(what: str, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]) -> RowLayout:
    """Raises `ImageError` unless the header is that of uint8 images in C order."""
    if dtype.hasobject:
        raise ImageError(f"{what} holds pickled objects", "they are never unpickled", "save uint8 images")
    channels = len(shape) == 4 and (shape[3] in (1, 3) or shape[1] in (1, 3))
    if dtype != np.uint8 or not channels or fortran:
        order = ", in Fortran order" if fortran else ""
        raise ImageError(
            f"{what} is no array of images",
            f"it is {dtype} {shape}{order}; images are uint8 (N, H, W, 3) or (N, 3, H, W)",
            "save uint8 images on 0..255",
        )
    if 0 in shape:
        raise ImageError(f"{what} holds no images", f"it has shape {shape}")
    return RowLayout((shape[0], shape[1], shape[2], shape[3]))


class NpzSource:
    """`arr_0` is (N, H, W, C) or (N, C, H, W) with C = 3, or 1 for grey, which is repeated in all three channels.

    If both the last axis and the second could be the channels, the last one is. `arr_1` is (N,) integers.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        if not path.is_file():
            what = f"{path} is no file" if path.exists() else f"no file at {path}"
            raise InputError(what, f"asked for as {name!r}", "check the path")
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
                if "arr_0.npy" not in members:
                    found = ", ".join(member.removesuffix(".npy") for member in members) or "nothing"
                    raise ImageError(
                        f"{path} has no arr_0", f"it holds {found}", "numpy.savez(FILE, images) names its array arr_0"
                    )
                self._shape, self._stored = self._layout(archive)
                self.labels: NDArray[np.int64] | None = self._labels(archive) if "arr_1.npy" in members else None
        except PermissionError as error:
            raise InputError(f"cannot read {path}", error.strerror or str(error), "check its permissions") from error
        except DAMAGE as error:
            raise self._damaged(error) from error
        self.layout = RowLayout(self._shape)
        self._last = self.layout.channels_last
        self.stored = self._stored
        self.resolution = self._shape[1:3] if self._last else self._shape[2:4]
        self._rows: NDArray[np.uint8] | None = None
        self._stream: IO[bytes] | None = None
        self._row, self._bytes = -1, b""  # the row that the stream gave last
        self._digest = ""

    def _damaged(self, error: Exception) -> ImageError:
        return ImageError(
            f"{self._path} is no npz, or is damaged", f"{type(error).__name__}: {error}", "write or copy it again"
        )

    def _layout(self, archive: zipfile.ZipFile) -> tuple[tuple[int, int, int, int], bool]:
        """Shape of `arr_0`, and whether it is stored uncompressed."""
        info = archive.getinfo("arr_0.npy")
        with archive.open(info) as file:
            shape, fortran, dtype = read_header(file)
            offset = file.tell()
        row_layout(f"arr_0 of {self._path}", shape, fortran, dtype)
        size = offset + int(np.prod(shape, dtype=np.int64))
        if size != info.file_size:
            raise ValueError(f"arr_0 should take {size} bytes and takes {info.file_size}")
        return (shape[0], shape[1], shape[2], shape[3]), info.compress_type == zipfile.ZIP_STORED

    def _labels(self, archive: zipfile.ZipFile) -> NDArray[np.int64]:
        with archive.open("arr_1.npy") as file:
            shape, _, dtype = read_header(file)
        if dtype.kind not in "iu" or shape != (self._shape[0],):
            raise ImageError(
                f"arr_1 of {self._path} is no array of labels",
                f"it is {dtype} {shape}; labels are integers ({self._shape[0]},)",
                "save one class id per image as arr_1, or leave it out",
            )
        with archive.open("arr_1.npy") as file:
            labels: NDArray[np.int64] = npy.read_array(file, allow_pickle=False).astype(np.int64)
        return labels

    def __len__(self) -> int:
        return self._shape[0]

    def load(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        wanted = np.asarray(indices, dtype=np.int64)
        if len(wanted) and not (-len(self) <= wanted.min() and wanted.max() < len(self)):
            raise IndexError(f"{self.name} has {len(self)} images")
        try:
            rows = self._mapped()[wanted] if self._stored else self._read(wanted % len(self))
        except DAMAGE as error:
            raise self._damaged(error) from error
        images = rows.transpose(0, 3, 1, 2) if self._last else rows
        if images.shape[1] == 1:
            images = np.repeat(images, 3, axis=1)
        return np.ascontiguousarray(images)

    def digest(self) -> str:
        """As everywhere over the pixels; the file's own checksum is compared on the way."""
        if not self._digest:
            if self._stored:
                self._check()
            self._digest = content_digest(self)
        return self._digest

    def _check(self) -> None:
        """Reads a mapped member through zipfile once, which compares its checksum."""
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open("arr_0.npy") as member:
                while member.read(1 << 22):
                    pass
        except DAMAGE as error:
            raise self._damaged(error) from error

    def start(self) -> int:
        """Where the first row of a stored `arr_0` begins, in bytes."""
        with zipfile.ZipFile(self._path) as archive, archive.open("arr_0.npy") as member:
            read_header(member)
            header = member.tell()
            local = archive.getinfo("arr_0.npy").header_offset
        with self._path.open("rb") as file:
            file.seek(local)
            fixed = file.read(30)  # the local header; its name and extra field may differ from the directory's
        return local + 30 + int.from_bytes(fixed[26:28], "little") + int.from_bytes(fixed[28:30], "little") + header

    def _mapped(self) -> NDArray[np.uint8]:
        if self._rows is None:
            self._rows = np.memmap(self._path, np.uint8, mode="r", offset=self.start(), shape=self._shape)
        return self._rows

    def _read(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Rows of a compressed member: forwards from where the last call ended, else from the start."""
        out = np.empty((len(wanted), *self._shape[1:]), dtype=np.uint8)
        size = int(np.prod(self._shape[1:]))
        for place in np.argsort(wanted, kind="stable"):
            row = int(wanted[place])
            if self._stream is None or row < self._row:
                if self._stream is not None:
                    self._stream.close()
                self._stream = zipfile.ZipFile(self._path).open("arr_0.npy")  # noqa: SIM115, kept between calls
                read_header(self._stream)
                self._row = -1
            while self._row < row:
                self._bytes = self._stream.read(size)
                if len(self._bytes) != size:
                    raise EOFError("arr_0 ends too early")
                self._row += 1
            if self._row == len(self) - 1:
                self._stream.read(1)  # at its end zipfile compares the checksum
            out[place] = np.frombuffer(self._bytes, dtype=np.uint8).reshape(self._shape[1:])
        return out


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, fortran, dtype
