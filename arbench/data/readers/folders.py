"""A folder of image files, or the ImageNet layout, as a reader; sizes may differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ...errors import ImageError, InputError
from .ahead import Item, Shard
from .decode import decode_file
from .listing import SCORED, classes_of, find_files, natural

WNID = re.compile(r"n\d{8}")


class FolderReader:
    """Image files below `folder` in natural order; if all lie in sub-folders, the first sub-folder is the class."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        if not folder.is_dir():
            what = f"{folder} is no folder" if folder.exists() else f"no folder at {folder}"
            raise InputError(what, f"asked for as {name!r}", "check the path")
        self._files = sorted(find_files(folder, SCORED), key=natural)
        if not self._files:
            looked = ", ".join(sorted(SCORED))
            raise ImageError(f"no images in {folder}", f"looked for {looked}, sub-folders included", "check the path")
        self.count = len(self._files)
        self.classes = classes_of(self._files)

    def items(self, shard: Shard) -> Iterator[Item]:
        ids = {name: label for label, name in enumerate(self.classes)}
        for index in shard.indices(self.count):
            name = self._files[index]
            yield Item(index, name, partial(decode_file, self._folder / name), ids.get(name.split("/", 1)[0]))


def imagenet(name: str, folder: Path) -> FolderReader:
    """As a folder, and every sub-folder must be named by a WordNet id; labels are the places of the sorted ids."""
    reader = FolderReader(name, folder)
    others = [found for found in reader.classes if not WNID.fullmatch(found)]
    if others or not reader.classes:
        why = f"{others[0]} is no WordNet id" if others else "its images lie in no sub-folders"
        raise ImageError(
            f"{folder} has not the layout of ImageNet", f"{why}; expected n01440764/*.JPEG, ...", f"folder:{folder}"
        )
    return reader
