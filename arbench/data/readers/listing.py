"""Which files are images and in which order they come: shared by folders and archives."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path, PurePosixPath

from ...errors import InputError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
SCORED = SUFFIXES | {".gif", ".tif", ".tiff"}
"""What `arbench score` looks for: a wider set, since there a bad file is counted and need not end the run."""


def is_image(name: str, suffixes: Set[str] = SCORED) -> bool:
    """By the last suffix of a "/"-separated name; parts that begin with a dot or "__" are passed over."""
    path = PurePosixPath(name)
    return path.suffix.lower() in suffixes and not any(part.startswith((".", "__")) for part in path.parts)


def find_files(folder: Path, suffixes: Set[str]) -> Iterator[str]:
    """Relative "/"-separated names of files below `folder`, links to folders included.

    A folder that cannot be listed is an `InputError`.
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
            if is_image(name, suffixes):
                yield name if inner == "." else f"{inner}/{name}"


def natural(name: str) -> list[tuple[tuple[int, int, str], ...]]:
    """Sort key: runs of digits compare as numbers, and come before letters; folders compare part by part."""
    return [
        tuple(
            (0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in re.split(r"(\d+)", part) if piece
        )
        for part in name.split("/")
    ]


def class_names(folders: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(folders), key=natural))


def classes_of(names: Sequence[str]) -> tuple[str, ...]:
    """The first folders of all names, in natural order, if every name has one; else none."""
    if not all("/" in name for name in names):
        return ()
    return class_names(name.split("/", 1)[0] for name in names)
