"""Sources of images by name, path or object: one grammar, read as a stream or by index.

A source is `mnist5k/train`, `mnist5k/heldout` or `mnist5k/all`; a path or an address (`s3://bucket/name`), or
`kind:PATH` with a kind of `KINDS`; for tar and parquet also a glob or several paths with commas between them (or a list
of them); or an object: a torch Dataset or other sequence, a DataLoader, an iterator (see
`arbench.data.readers.objects`), or an `ImageSource`. Imports no torch.

    open_stream, open_images   one picture after another, of any size: what `arbench score` reads
    open_source                by index, all of one size: what a suite reads
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.torch_format import is_torch
from ..errors import ImageError, InputError, UnknownName, UsageError, closest
from ..npy_files import zip_members
from ..remote.address import is_address
from ..remote.cached import local
from .indexed import ImageSource
from .random_access import ReaderSource
from .readers.ahead import AheadStream, IndexedReader, Reader, Shard
from .readers.archives import TarReader, ZipReader, is_tar
from .readers.arrays import NpyReader, NpzReader, SourceReader
from .readers.folder import FolderReader, imagenet, refuse_run
from .readers.foreign import HEAD, refuse
from .readers.listing import SUFFIXES, find_files, natural
from .readers.mnist import SPLITS, mnist5k
from .readers.objects import IterableReader, SequenceReader
from .readers.tables import ParquetReader
from .readers.torch_images import TorchReader
from .reading import PLAIN, Reading, Source, crop_of, name_of
from .statistics import published
from .stream import ImageStream, OnBad

MNIST = (*(f"mnist5k/{split}" for split in SPLITS), "mnist5k/all")
KINDS = ("folder", "imagenet", "npz", "npy", "pt", "zip", "tar", "parquet")
ALIASES = {"webdataset": "tar", "wds": "tar"}
SEVERAL = ("tar", "parquet")
"""Kinds of which several files make one source."""


def open_source(source: Source, reading: Reading = PLAIN, *, mixed: bool = False) -> ImageSource:
    """The pictures of `source` by index, all of one size after the crop of `reading` unless they may be `mixed`.

    Opening checks what headers tell: sizes, labels, which images are broken; of a parquet only labels. A Dataset is
    asked for each of its items once. Iterators, and bad images that are to be left out, need a stream.

    Raises `UnknownName`, `InputError` (no such path, no permission) or `ImageError` (none, broken, mixed sizes).
    """
    reader = _reader(source, reading.column)
    if not isinstance(reader, IndexedReader):
        raise InputError(
            f"{name_of(source)} cannot be read by index",
            "an iterator gives its images once, in its own order",
            "give a Dataset with __len__ and __getitem__, or write the images to a folder, zip or npz",
        )
    if reading.on_bad == "skip":
        raise UsageError(
            f"bad images of {reader.name} cannot be left out here",
            "its images are numbered, and each number must have one",
            "repair or remove the bad images",
        )
    as_it_is = reading.limit is None and reading.crop == "none"
    if as_it_is and isinstance(reader, SourceReader) and len(reader.sources) == 1:
        return reader.sources[0]
    return ReaderSource(reader, reading.limit, reading.crop, reading.size, mixed)


def open_images(source: Source, reading: Reading = PLAIN, shard: tuple[int, int] = (0, 1)) -> ImageStream:
    """The pictures of `source` as a stream, cropped as `reading` says."""
    places = Shard(*shard, reading.limit)
    return AheadStream(_reader(source, reading.column), places, reading.on_bad, treat=crop_of(reading))


def open_stream(
    source: str | Path | object,
    *,
    on_bad: OnBad = "error",
    shard: tuple[int, int] = (0, 1),
    limit: int | None = None,
    key: str | None = None,
    workers: int | None = None,
) -> AheadStream:
    """A stream of the pictures of `source`, in its order, decoded ahead in `workers` threads.

    on_bad: "error" raises `ImageError` at the first bad image; "skip" leaves it out and counts it in `tally.skipped`.
    shard: (i, n) gives the images whose place in the source, modulo n, is i.
    limit: only places below it, bad images and other shards included, so that shards still add up to the whole.
    key: the image column of a parquet, the suffix of the image in a WebDataset sample, the image's name in a dict.

    Raises `UnknownName` or `InputError` (`ImageError` among them) now if the source cannot be used, and `ImageError`
    on the way if an image is bad or an archive is damaged; the pictures before it are given first.
    """
    return AheadStream(_reader(source, key), Shard(*shard, limit), on_bad, workers)


def takes_column(source: Source) -> bool:
    """Whether a source can have several columns of images, so that a reading's `column` chooses one."""
    if not isinstance(source, str) or is_address(source):
        return True
    if source.startswith("mnist5k/"):
        return False
    if Path(source).exists():
        return _kind(Path(source)) in SEVERAL
    kind = source.partition(":")[0]
    return ALIASES.get(kind, kind) in SEVERAL or kind not in KINDS


def _reader(source: str | Path | object, key: str | None) -> Reader:
    if isinstance(source, Path):
        return _of_kind(_kind(source), str(source), [source], key)
    if isinstance(source, str):
        return _named(source, key)
    name = type(source).__name__
    if isinstance(source, list | tuple) and source and all(isinstance(path, str | Path) for path in source):
        paths = [Path(path) for path in source]
        return _of_kind(_one_kind({_kind(path) for path in paths}, name), ",".join(map(str, source)), paths, key)
    if all(hasattr(source, part) for part in ("load", "keys", "resolution", "labels", "classes", "__len__")):
        image_source: Any = source
        return SourceReader(image_source.name, [image_source])
    if _indexable(source):
        return SequenceReader(name, source, key)
    if isinstance(source, Iterable) and not isinstance(source, bytes | dict):
        return IterableReader(name, source, key)
    raise InputError(f"{name} is not a source of images", "expected a path, a Dataset or an iterator")


def _indexable(source: object) -> bool:
    """torch's IterableDataset inherits a `__getitem__` that only raises."""
    get = getattr(type(source), "__getitem__", None)
    inherited = getattr(get, "__qualname__", "") == "Dataset.__getitem__" and "torch" in getattr(get, "__module__", "")
    return get is not None and not inherited and hasattr(source, "__len__") and not isinstance(source, bytes | dict)


def _named(name: str, key: str | None) -> Reader:
    if name.startswith("mnist5k/"):
        if name not in MNIST:
            raise UnknownName("data source", name, MNIST, "arbench ls datasets")
        return SourceReader(name, [mnist5k(split) for split in SPLITS if name in (f"mnist5k/{split}", "mnist5k/all")])
    if is_address(name):
        path = Path(local(name))
        return _of_kind(_kind(path), name, [path], key)
    kind, colon, rest = name.partition(":")
    if colon and not Path(name).exists():
        kind = ALIASES.get(kind, kind)
        if published.is_name(name):
            title = published.known(name).title
            raise InputError(f"{name} is not images", f"it is statistics of {title}", "name the images themselves")
        if kind not in KINDS:
            if closest(name, published.PUBLISHED):
                raise UnknownName("reference", name, published.PUBLISHED)
            raise UnknownName("data source", kind, [*KINDS, *MNIST], f"write kind:PATH with {', '.join(KINDS)}")
        if not rest:
            raise InputError(f"no path in {name!r}", "", f"write {kind}:PATH")
        return _of_kind(kind, name, _paths(local(rest), kind in SEVERAL), key)
    paths = _paths(name, True)
    return _of_kind(_one_kind({_kind(path) for path in paths}, name), name, paths, key)


def _paths(text: str, several: bool) -> list[Path]:
    """The path, or those that a glob or a list with commas stands for, in natural order within a glob."""
    if not several or Path(text).exists():
        return [Path(text)]
    found: list[Path] = []
    for part in text.split(","):
        if re.search(r"[*?\[]", part):
            matches = sorted(glob.glob(part, recursive=True), key=natural)  # noqa: PTH207, the pattern may be absolute
            if not matches:
                raise InputError(f"no file matches {part}", "", "quote the pattern, and check the path")
            found += map(Path, matches)
        else:
            found.append(Path(part))
    return found


def _one_kind(kinds: set[str], name: str) -> str:
    if len(kinds) > 1:
        raise InputError(f"{name} mixes {' and '.join(sorted(kinds))}", "one source is of one kind", "give one kind")
    return next(iter(kinds))


def _kind(path: Path) -> str:
    """Told by content: magic bytes, and for a folder whether it holds images or shards."""
    if path.is_dir():
        refuse_run(path)
        if next(find_files(path), None) is None:
            return next((kind for kind in SEVERAL if _inside(path, kind)), "folder")
        return "folder"
    if not path.exists():
        if closest(str(path), MNIST):
            raise UnknownName("data source", str(path), MNIST, "arbench ls datasets")
        raise InputError(f"no file or folder at {path}", "", f"check the path, or name a source: {', '.join(MNIST)}")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise InputError(f"cannot read {path}", error.strerror or str(error), "check its permissions") from error
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"PAR1"):
        return "parquet"
    if is_torch(path, head):
        return "pt"
    if head.startswith(b"PK"):
        return "npz" if path.suffix.lower() == ".npz" or "arr_0.npy" in zip_members(path) else "zip"
    if ".tar" in path.name.lower() or path.suffix.lower() == ".tgz" or is_tar(path):
        return "tar"
    if path.suffix.lower() in SUFFIXES:
        raise ImageError(f"{path} is one image", "a set of images is needed", f"name its folder: {path.parent}")
    for kind in KINDS:
        if path.suffix.lower() == f".{kind}":  # not by content: its reader says what is wrong with it
            return kind
    return refuse(path, head, ", ".join(KINDS))


def _inside(folder: Path, kind: str) -> list[Path]:
    """Files of a kind right in a folder, in natural order."""
    endings = (".tar", ".tar.gz", ".tgz") if kind == "tar" else (".parquet",)
    found = [path for path in folder.iterdir() if path.name.lower().endswith(endings) and path.is_file()]
    return sorted(found, key=lambda path: natural(path.name))


def _of_kind(kind: str, name: str, paths: Sequence[Path], key: str | None) -> Reader:
    path = paths[0]
    if kind in SEVERAL:
        files = [file for path in paths for file in (_inside(path, kind) or [path] if path.is_dir() else [path])]
        return TarReader(name, files, key) if kind == "tar" else ParquetReader(name, files, key)
    if len(paths) > 1:
        raise InputError(f"{name} names {len(paths)} sources of kind {kind}", "", "give one, or put them in one folder")
    if kind == "folder":
        return FolderReader(name, path)
    if kind == "imagenet":
        return imagenet(name, path)
    readers: dict[str, Callable[[str, Path], Reader]] = {
        "npz": NpzReader,
        "npy": NpyReader,
        "pt": TorchReader,
        "zip": ZipReader,
    }
    return readers[kind](name, path)
