"""Image sources by name: `mnist5k/train`, `folder:PATH`, `npz:PATH`. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import InputError, UnknownName
from .indexed import ImageSource
from .readers.folder import FolderSource
from .readers.mnist import SPLITS, mnist5k
from .readers.npz import NpzSource

PATHS: dict[str, Callable[[str, Path], ImageSource]] = {"folder": FolderSource, "npz": NpzSource}
NAMES = tuple(f"mnist5k/{split}" for split in SPLITS)


def open_source(name: str) -> ImageSource:
    """The source that a suite names. A folder's or file's images are checked as far as their headers tell.

    Raises `UnknownName`, `InputError` (no such path, no permission) or `ImageError` (none, broken, mixed sizes).
    """
    for split in SPLITS:
        if name == f"mnist5k/{split}":
            return mnist5k(split)
    kind, colon, path = name.partition(":")
    if not colon or kind not in PATHS:
        hint = "arbench ls datasets, or write folder:PATH or npz:PATH"
        if not colon and Path(name).exists():
            hint = f"write {'folder' if Path(name).is_dir() else 'npz'}:{name}"
        if colon:
            raise UnknownName("data source", kind, [*PATHS, *NAMES], hint)
        raise UnknownName("data source", name, [*NAMES, *(f"{kind}:PATH" for kind in PATHS)], hint)
    if not path:
        raise InputError(f"no path in {name!r}", "", f"write {kind}:PATH")
    return PATHS[kind](name, Path(path))
