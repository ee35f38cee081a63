"""Which files are images, in which order they come, and what their classes are: shared by folders and archives."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from ...errors import ImageError, InputError, PrerequisiteError

SUFFIXES = frozenset(
    [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"]
)
_OTHERS = """.npy .npz .avif .heic .heif .jp2 .j2k .jpx .jxl .jfif .jpe .apng .tga .dds .exr .hdr .pfm .pam
.psd .svg .ico .pcx .sgi .qoi .dng .raw .cr2 .nef .dcm .nii .pt .pth .h5 .mat"""
NOT_READ = frozenset(_OTHERS.split())
"""Suffixes of images and arrays that other tools may read from a folder, and that are passed over here."""
WORDNET_ID = re.compile(r"n[0-9]{8}")
LONG = 4000
"""Digits from which on a number in a name is text: Python refuses to convert it."""
INTEGER = re.compile(r"[0-9]{1,18}")


def is_image(name: str) -> bool:
    """By the last suffix of a "/"-separated name; parts that begin with a dot or "__" are passed over."""
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not any(part.startswith((".", "__")) for part in path.parts)


def count_passed_over(name: str, found: Counter[str]) -> None:
    """Counts a "/"-separated name in `found`, by its suffix, if it looks like an image or array that is not read.

    Of hidden files images too, which torch-fidelity and pytorch-fid take, but not macOS's companions of other files.
    """
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if any(part.startswith((".", "__")) for part in path.parts[:-1]):
        return
    if suffix in NOT_READ and not path.name.startswith((".", "__")):
        found[suffix] += 1
    elif suffix in SUFFIXES and path.name.startswith((".", "__")) and not path.name.startswith("._"):
        found[f"hidden {suffix}"] += 1


def shown(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are not UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def find_files(folder: Path, passed_over: Counter[str] | None = None) -> Iterator[str]:
    """Relative "/"-separated names of the images below `folder`, links to folders included.

    A folder that cannot be listed is an `InputError`. Other files that may be images are counted in `passed_over`.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"cannot list {error.filename}", error.strerror or str(error), "check its permissions"
        ) from error

    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        here = Path(place).resolve()
        below = [name for name in folders if not name.startswith((".", "__"))]
        folders[:] = [name for name in below if not here.is_relative_to(Path(place, name).resolve())]  # a link upwards
        inner = Path(place).relative_to(folder).as_posix()
        for name in names:
            if passed_over is not None:
                count_passed_over(name, passed_over)
            if is_image(name):
                yield name if inner == "." else f"{inner}/{name}"


def natural(name: str) -> list[tuple[tuple[int, int, str], ...]]:
    """Sort key: runs of digits compare as numbers, and come before letters; folders compare part by part."""
    return [
        tuple(
            (0, int(piece), "") if piece.isdecimal() and len(piece) < LONG else (1, 0, piece)
            for piece in re.split(r"(\d+)", part)
            if piece
        )
        for part in name.split("/")
    ]


class Classes:
    """The classes of images by their "/"-separated names: the first folder, if every name has one, else none."""

    def __init__(self, what: str, names: Sequence[str]) -> None:
        self._what = what
        self._beside = next((name for name in names if "/" not in name), None)
        self._nested = any("/" in name for name in names)
        self._ids = class_ids(what, {name.partition("/")[0] for name in names}) if self._beside is None else {}

    @property
    def names(self) -> Mapping[int, str]:
        """Label -> name, in the order of the labels."""
        return {label: name for name, label in sorted(self._ids.items(), key=lambda entry: entry[1])}

    def label(self, name: str) -> int | None:
        return self._ids.get(name.partition("/")[0]) if self._ids else None

    def refuse_mixed(self) -> None:
        """Raises `ImageError` if some images lie in sub-folders and others do not."""
        if self._nested and self._beside is not None:
            raise ImageError(
                f"{self._what} contains both images and sub-folders with images",
                f"sub-folders are classes, and {self._beside} is not in one",
                "move it into the folder of its class, or name one sub-folder as the source",
            )


def class_ids(what: str, names: Iterable[str]) -> dict[str, int]:
    """Name of each class -> its label.

    The place among ImageNet-1k's 1000 sorted WordNet ids, if every name is one of them, whichever are there; the
    integer that the name is, if every name is one ("3", "07"); else the place in the natural order of the names.
    """
    ordered = sorted(set(names), key=natural)
    if all(WORDNET_ID.fullmatch(name) for name in ordered):
        official = imagenet_ids()
        if all(name in official for name in ordered):
            return {name: official[name] for name in ordered}
    if all(INTEGER.fullmatch(name) for name in ordered):
        of: dict[int, str] = {}
        for name in ordered:
            other = of.setdefault(int(name), name)
            if other != name:
                raise ImageError(
                    f"two folders in {what} are class {int(name)}: {other} and {name}",
                    "folders with numbers as names are the classes with these numbers",
                    "join them, or rename one",
                )
        return {name: label for label, name in of.items()}
    return {name: label for label, name in enumerate(ordered)}


@functools.cache
def imagenet_ids() -> Mapping[str, int]:
    """WordNet id -> class of ImageNet-1k, from the list that timm ships; timm itself is not imported."""
    spec = importlib.util.find_spec("timm")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder, "data", "_info", "imagenet_synsets.txt")
        if path.is_file():
            return {name: label for label, name in enumerate(sorted(path.read_text(encoding="utf-8").split()))}
    raise PrerequisiteError(
        "the list of ImageNet's classes is missing",
        "folders are named by WordNet ids, and timm/data/_info/imagenet_synsets.txt gives their class numbers",
        "pip install timm",
    )
