"""The digest of what a suite names: of images by their pixels, of statistics by their bytes."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from ..spec.task import Data
from .indexed import ImageSource
from .reading import Reading, is_statistics
from .sources import open_source
from .statistics import kept, published


@functools.cache
def opened(data: Data) -> ImageSource:
    """The images of `data`, opened once in a process."""
    return open_source(data.source, Reading(limit=data.limit, crop=data.crop, size=data.size))


@functools.cache
def digest_of(data: Data) -> str:
    """Hex digest of the content. Raises `InputError` and the other errors of `open_source` and `kept.locate`."""
    if published.is_name(data.source):
        return kept.locate(data.source).sha256
    if is_statistics(data.source):
        with Path(data.source).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return opened(data).digest()
