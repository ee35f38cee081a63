"""npy and npz as strangers may have written them: a header is compared with the bytes and the bound before anything is
allocated, and whatever is wrong is a ValueError, or an InputError where it is too large."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from numpy import dtype
from numpy.lib import format as npy
from numpy.typing import NDArray

from .limits import refuse_beyond

NPZ_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError),
    *(NotImplementedError, RuntimeError, LookupError, struct.error),
)
"""What zipfile, and what is below, raises on an npz that is cut short, altered, encrypted or packed in a new way."""

Header = tuple[tuple[int, ...], bool, "dtype[Any]"]


def npy_header(file: IO[bytes]) -> Header:
    """Shape, Fortran order and dtype at the head of an npy stream, which is left at the data."""
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"npy version {version}")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, kind = read(file)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:  # NumPy has it parsed as Python text, which fails in any way
        first = str(error).partition("\n")[0]
        raise ValueError(f"its npy header is damaged: {first or type(error).__name__}") from error
    if any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"its npy header is damaged: shape {shape}")
    return shape, bool(fortran), kind


def npy_bytes(header: Header) -> int:
    """What the data takes."""
    shape, _, kind = header
    return math.prod(shape) * kind.itemsize


def zip_members(path: Path) -> frozenset[str]:
    """Names of the members of a zip; none for a file that is not a zip, or a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(archive.namelist())
    except NPZ_DAMAGE:
        return frozenset()


class NpzArrays(Mapping[str, NDArray[Any]]):
    """The arrays of an open npz of numbers, each read when it is asked for, as `read_member` reads it."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._archive, self._name = archive, name
        self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

    def __getitem__(self, key: str) -> NDArray[Any]:
        return read_member(self._archive, self._members[key], f"{key} of {self._name}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, key: object) -> bool:
        return key in self._members


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str) -> NDArray[Any]:
    """The array of one member of an npz. Raises `InputError` if it is beyond the bound, else one of `NPZ_DAMAGE`."""
    with archive.open(info) as file:
        header = npy_header(file)
        start = file.tell()
    if header[2].hasobject:
        raise ValueError("it holds pickled objects, which are never unpickled")
    if start + npy_bytes(header) != info.file_size:
        raise ValueError(f"{info.filename} should take {start + npy_bytes(header)} bytes and takes {info.file_size}")
    refuse_beyond(what, npy_bytes(header))
    with archive.open(info) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array
