"""What a suite names, counted and digested: images by their pixels, statistics and tables by bytes, prompts by text."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from ..errors import InputError
from ..remote.cached import local
from ..spec.task import Data
from .indexed import ImageSource
from .prompts import CAPTION, digest_of_captions, digest_of_texts, read_prompts
from .random_access import ReaderSource
from .reading import Reading, digest_of_states, fingerprint, is_statistics
from .sources import open_source
from .statistics import kept, published


def opened(data: Data) -> ImageSource:
    """The images of `data`, opened once in a process for as long as its files stay what they are."""
    return _opened(data, fingerprint(data.source))


def one_size(source: ImageSource) -> tuple[int, int] | None:
    """Height and width of every image, or None if they differ, as those of a reference may."""
    return None if isinstance(source, ReaderSource) and source.mixed else source.resolution


def digest_of(data: Data) -> str:
    """Hex digest of the content, computed once in a process for as long as its files stay what they are.

    Raises `InputError` and the other errors of `open_source` and `kept.locate`.
    """
    files = fingerprint(data.source)
    if data.what in ("prompts", "captions"):  # the files that the lines name have a say too
        named = (Path(line) for line in read_prompts(Path(data.source)) if line.endswith(CAPTION))
        files += digest_of_states(named)
    return _digest_of(data, files)


@functools.cache
def _opened(data: Data, files: str) -> ImageSource:
    return open_source(data.source, Reading(limit=data.limit, crop=data.crop, size=data.size), mixed=data.mixed)


@functools.cache
def _digest_of(data: Data, files: str) -> str:
    if data.what in ("prompts", "captions"):
        return (digest_of_texts if data.what == "prompts" else digest_of_captions)(Path(data.source))
    if data.what == "file":
        return _of_bytes(Path(data.source))
    if published.is_name(data.source):
        return kept.locate(data.source).sha256
    if is_statistics(data.source):
        return _of_bytes(Path(local(data.source)))
    return opened(data).digest()


def _of_bytes(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}", error.strerror or str(error), "check the path") from error


def count_of(data: Data) -> int:
    """How many images or prompts there are."""
    return len(opened(data)) if data.what == "images" else len(read_prompts(Path(data.source)))
