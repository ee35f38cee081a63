"""Zip and tar archives (WebDataset shards too) as readers: members are read where they lie, nothing is extracted."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ...errors import ImageError, InputError
from ...limits import VARIABLE, max_bytes, refuse_header
from ...npy_files import NPZ_DAMAGE
from .ahead import AGAIN, Header, Item, Shard, damaged
from .budget import reserve
from .decode import BadImage, Decoded, decode, header_size, refuse_bytes
from .listing import Classes, count_passed_over, is_image, natural, shown

ZIP_DAMAGE = (*NPZ_DAMAGE, lzma.LZMAError)
"""What zipfile raises on an archive that is cut short, altered, encrypted or of an unknown compression."""
TAR_DAMAGE = (
    *(tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, struct.error),
    *(ValueError, LookupError, ArithmeticError, RecursionError),  # numbers and chains in the headers
)
"""What tarfile raises on an archive that is cut short or altered."""
HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
"""Kinds of members that tarfile reads whole: names and other facts of the next one."""
OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZ": bz2.BZ2File,
    b"\xfd7": lzma.LZMAFile,
}
"""By the first two bytes."""
HEAD = 1 << 16
"""Bytes of a member in which an image's header is looked for first."""


class ZipReader:
    """Image members in natural order; classes are sub-folders, as in a folder, below a first one that all share."""

    seeks = portable = True

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        try:
            self._archive = _Archive(path)
            members = [info for info in self._archive.file.infolist() if not info.is_dir()]
        except PermissionError as error:
            raise InputError(f"cannot read {path}", error.strerror or str(error), "check its permissions") from error
        except ZIP_DAMAGE as error:
            raise InputError(f"{path} is not a zip file, or is damaged", str(error), AGAIN) from error
        self.passed_over: Counter[str] = Counter()
        for each in members:
            count_passed_over(each.filename, self.passed_over)
        # entries, not names: two members may have one
        self._entries = sorted((each for each in members if is_image(each.filename)), key=lambda e: natural(e.filename))
        self._members = [entry.filename for entry in self._entries]
        if not self._members:
            such = f", such as {', '.join(shown(each.filename) for each in members[:3])}" if members else ""
            raise ImageError(
                f"no images in {path}", f"it has {len(members)} other members{such}", "name an archive of images"
            )
        self.count = len(self._members)
        shared = _shared_root(self._members)
        self._root = len(shared)
        self._classes = Classes(str(path), [member[self._root :] for member in self._members])
        self.classes = self._classes.names

    def items(self, shard: Shard) -> Iterator[Item]:
        for index in shard.indices(self.count):
            member = self._members[index]
            work = partial(_decoded, self._archive, self._entries[index])
            yield Item(index, member, work, self._label(member))

    def headers(self, limit: int | None) -> Iterator[Header]:
        self._classes.refuse_mixed()
        for entry in self._entries[:limit]:
            member = entry.filename
            try:
                yield Header(member, self._label(member), self._size(entry))
            except BadImage as error:
                yield Header(member, self._label(member), bad=error.detail)

    def _label(self, member: str) -> int | None:
        return self._classes.label(member[self._root :])

    def _size(self, info: zipfile.ZipInfo) -> tuple[int, int]:
        try:
            return header_size(io.BytesIO(self._archive.read(info, HEAD)))
        except BadImage:  # a long header, or a format with its header elsewhere
            return header_size(io.BytesIO(self._archive.read(info)))


class _Archive:
    """A zip, open as long as its reader lives: zipfile shares one handle between threads, under a lock.

    Pickled, it is its path, which the process that it is sent to opens once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = zipfile.ZipFile(path)

    def __reduce__(self) -> tuple[Callable[[Path], _Archive], tuple[Path]]:
        return _opened_once, (self.path.absolute(),)

    def read(self, info: zipfile.ZipInfo, count: int = -1) -> bytes:
        try:
            refuse_bytes(info.file_size)
            reserve(info.file_size)
            with self.file.open(info) as file:
                return file.read(count)
        except ZIP_DAMAGE as error:
            raise damaged(f"{info.filename} of {self.path}", error) from error


@lru_cache(maxsize=1)
def _opened_once(path: Path) -> _Archive:
    return _Archive(path)


def _decoded(archive: _Archive, info: zipfile.ZipInfo) -> Decoded:
    return decode(archive.read(info))


def _shared_root(names: Sequence[str]) -> str:
    """The folders, with their slash, in which all names lie; a folder of images zipped with its name has one.

    A single folder right above all images is not a class, even where the same folder unpacked would be.
    """
    root = PurePosixPath(names[0]).parts[:-1]
    for name in names:
        parts = PurePosixPath(name).parts[:-1]
        root = root[: next((i for i, (a, b) in enumerate(zip(root, parts, strict=False)) if a != b), len(parts))]
    return "".join(f"{part}/" for part in root)


class TarReader:
    """Tars one after another, each read once from start to end, compressed (gz, bz2, xz) or not.

    Images come in the order of the archive. Neighbours with the same name up to its first dot are one sample, as in
    WebDataset: its image, and its label if there is a `.cls`. A sample with two images needs `key`, such as "jpg".
    """

    count: int | None = None
    classes: Mapping[int, str] = {}
    seeks = False
    portable = True

    def __init__(self, name: str, paths: Sequence[Path], key: str | None = None) -> None:
        self.name = name
        self._paths = paths
        self._key = key.lstrip(".").lower() if key else None
        self.passed_over: Counter[str] = Counter()
        for path in paths:
            if not path.is_file():
                raise InputError(f"no file at {path}", f"asked for as {name!r}", "check the path")

    def items(self, shard: Shard) -> Iterator[Item]:
        for index, key, sample in self._wanted(shard):
            yield Item(index, shown(key), sample.decode, sample.label, len(sample.data))

    def headers(self, limit: int | None) -> Iterator[Header]:
        for _, key, sample in self._wanted(Shard(limit=limit)):
            try:
                yield Header(shown(key), sample.label, sample.size())
            except BadImage as error:
                yield Header(shown(key), sample.label, bad=error.detail)

    def _wanted(self, shard: Shard) -> Iterator[tuple[int, str, _Sample]]:
        """Index, key and sample."""
        self.passed_over.clear()
        index = 0
        for path in self._paths:
            prefix = "" if len(self._paths) == 1 else f"{path.name}/"
            for sample in self._samples(path, index, shard):
                if shard.past(index):
                    return
                if shard.wants(index):
                    yield index, prefix + sample.member, sample
                index += 1
        if not index:
            wanted = f" .{self._key}" if self._key else ""
            raise ImageError(f"no{wanted} images in {self.name}", "", "check the path")

    def _samples(self, path: Path, index: int, shard: Shard) -> Iterator[_Sample]:
        """Samples with an image; `index` is that of the first. Bytes are kept only of those that the shard wants."""
        sample = _Sample()
        try:
            with _decompressed(path) as file, tarfile.open(fileobj=file, mode="r|", tarinfo=_StrictInfo) as archive:
                while (info := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # else every header stays in memory
                    archive.pax_headers = {}
                    stem, suffix = _split(info.name)
                    if stem != sample.stem:
                        if sample.member:
                            yield sample
                            index += 1
                        sample = _Sample(stem)
                    if info.isdir():
                        continue
                    count_passed_over(info.name, self.passed_over)
                    if suffix == "cls":
                        sample.label = _label(_content(archive, info))
                    elif is_image(info.name) and self._key in (None, suffix):
                        if sample.member:
                            raise ImageError(
                                f"sample {stem} of {path} has two images",
                                f"{sample.member} and {info.name}",
                                f"choose one kind with its key, such as {suffix}",
                            )
                        sample.member = info.name
                        sample.take(archive, info, shard.wants(index))
                while rest := file.read(1 << 20):  # to the end, where a compressed file has its checksum
                    if rest.count(0) != len(rest):
                        raise tarfile.ReadError("there is data after its end mark")
        except TAR_DAMAGE as error:
            raise damaged(str(path), error) from error
        if sample.member:
            yield sample


@dataclass(slots=True)
class _Sample:
    stem: str = ""
    member: str = ""
    label: int | None = None
    data: bytes = b""
    bad: tuple[str, str] | None = None

    def take(self, archive: tarfile.TarFile, info: tarfile.TarInfo, wanted: bool) -> None:
        if not info.isfile():
            self.bad = ("unreadable file", "it is a link or a device in the archive")
        elif info.issparse():  # a few bytes stand for as many zeros as they like
            self.bad = ("unreadable file", "it is a sparse file in the archive")
        elif info.size > (bound := max_bytes()):
            self.bad = ("too large", f"{info.size} bytes; the bound is {bound} ({VARIABLE})")
        elif wanted:
            self.data = _content(archive, info)

    def decode(self) -> Decoded:
        if self.bad is not None:
            raise BadImage(*self.bad)
        return decode(self.data)

    def size(self) -> tuple[int, int]:
        """Height and width, from the header."""
        if self.bad is not None:
            raise BadImage(*self.bad)
        return header_size(io.BytesIO(self.data))


class _StrictInfo(tarfile.TarInfo):
    """tarfile takes a broken header, or the end of the file, for the end of the archive; here it is damage.

    A long name or a pax header is read whole, whatever size it claims: here only below the bound.
    """

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in HEADERS:
            refuse_header("a header of the tar file", self.size)
        return super()._proc_member(archive)  # type: ignore[misc]

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _StrictInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError("it ends without its end mark") from error
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def is_tar(path: Path) -> bool:
    """By its first block alone: tarfile's own test would read the first member's headers, however long."""
    try:
        with _decompressed(path) as file:
            tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), tarfile.ENCODING, "surrogateescape")
    except TAR_DAMAGE:
        return False
    return True


def _decompressed(path: Path) -> IO[bytes]:
    try:
        with path.open("rb") as file:
            magic = file.read(2)
        return OPENERS[magic](path) if magic in OPENERS else path.open("rb")
    except PermissionError as error:
        raise InputError(f"cannot read {path}", error.strerror or str(error), "check its permissions") from error


def _split(name: str) -> tuple[str, str]:
    """The name up to the first dot after its last slash, and the rest: "a/b.seg.PNG" -> "a/b", "seg.png"."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix.lower()


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    data = b"" if file is None or info.size > max_bytes() else file.read()
    if len(data) != info.size:
        raise EOFError(f"{info.name} ends too early")
    return data


def _label(text: bytes) -> int | None:
    try:
        label = int(text)
    except ValueError:
        return None
    return label if abs(label) < 1 << 63 else None
