"""A folder of image files, or the ImageNet layout, as a reader; sizes may differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from ...errors import ImageError, InputError
from ...json_text import parse_json
from .ahead import Header, Item, Shard, threads
from .decode import BadImage, decode_file, header_size
from .foreign import inside
from .listing import SUFFIXES, WORDNET_ID, Classes, find_files, natural, shown

AT_ONCE = 4096
"""Files whose headers are asked for together."""
RUN_FILE, RUN_KEY = "run.json", "run_id"


class FolderReader:
    """The images below `folder`, in natural order of their relative paths ("2.png" before "10.png").

    If all lie in sub-folders, the first sub-folder is the class (see `listing.class_ids`). Names that begin with a dot
    or "__" are passed over.
    """

    seeks = portable = True

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        if not folder.is_dir():
            what = f"{folder} is not a folder" if folder.exists() else f"no folder at {folder}"
            raise InputError(what, f"asked for as {name!r}", "check the path")
        refuse_run(folder)
        self.passed_over: Counter[str] = Counter()
        self._files = sorted(find_files(folder, self.passed_over), key=natural)
        if not self._files:
            looked, (found, step) = ", ".join(sorted(SUFFIXES)), inside(folder)
            raise ImageError(f"no images in {folder}", f"{found}; looked for {looked}, sub-folders included", step)
        self.count = len(self._files)
        self._classes = Classes(str(folder), self._files)
        self.classes = self._classes.names

    def items(self, shard: Shard) -> Iterator[Item]:
        for index in shard.indices(self.count):
            name = self._files[index]
            yield Item(index, shown(name), partial(decode_file, self._folder / name), self._classes.label(name))

    def headers(self, limit: int | None) -> Iterator[Header]:
        self._classes.refuse_mixed()
        files = self._files[:limit]
        with ThreadPoolExecutor(threads()) as pool:
            for start in range(0, len(files), AT_ONCE):
                yield from pool.map(self._header, files[start : start + AT_ONCE])

    def _header(self, name: str) -> Header:
        label = self._classes.label(name)
        try:
            return Header(shown(name), label, header_size(self._folder / name))
        except BadImage as error:
            return Header(shown(name), label, bad=error.detail)


def imagenet(name: str, folder: Path) -> FolderReader:
    """As a folder, and every sub-folder must be named by a WordNet id."""
    reader = FolderReader(name, folder)
    others = [found for found in reader.classes.values() if not WORDNET_ID.fullmatch(found)]
    if others or not reader.classes:
        why = f"{others[0]} is not a WordNet id" if others else "its images are not in sub-folders"
        raise ImageError(
            f"{folder} does not have the layout of ImageNet",
            f"{why}; expected n01440764/*.JPEG, ...",
            f"to read it as a plain folder: folder:{folder}",
        )
    return reader


def refuse_run(folder: Path) -> None:
    """Raises `ImageError` for the folder of a run or score, and any folder in it: their pictures are for people."""
    here = folder.resolve()
    for place in (here, *here.parents):
        if _is_run(place):
            run = _shown(place, here, folder)
            parts = here.relative_to(place).parts
            cell = parts[1] if len(parts) > 1 and parts[0] == "cells" else "CELL"
            what = f"{folder} is the folder of a run" if place == here else f"{folder} is in the folder of a run, {run}"
            raise ImageError(
                f"{what}, not a folder of images",
                "the pictures in it are contact sheets and other artifacts, not the samples",
                f"arbench score {run}:{cell} --reference REF",
            )


def _is_run(folder: Path) -> bool:
    try:
        found = parse_json((folder / RUN_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and RUN_KEY in found


def _shown(run: Path, here: Path, folder: Path) -> str:
    """`run`, which is `here` or above it, as the user would write it who wrote `folder` for `here`."""
    up = len(here.parts) - len(run.parts)
    written = (folder, *folder.parents)
    return str(written[up] if up < len(written) and written[up].resolve() == run else run)
