"""Images one after another from any source, of any size: what `arbench score` reads. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

NOT_READ = " files, which are not read"
"""Ends the reason of files that are passed over, whatever is done with bad images."""
OnBad = Literal["error", "skip"]


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded image. `index` is its place in the whole source, bad images and other shards included."""

    index: int
    key: str
    """Relative path, member name or row number: what a person would look for."""
    image: NDArray[np.uint8]
    """(3, H, W) RGB."""
    label: int | None = None
    digest: str = ""
    """`arbench.images.digest` of the image, if it is known already."""


@dataclass(slots=True)
class Tally:
    """What became of the images so far."""

    read: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    """Reason ("truncated", "not an image", ".npy files, which are not read", ...) -> count.

    With on_bad="error" only files that are not read.
    """
    converted: dict[str, int] = field(default_factory=dict)
    """How pixels became RGB, where they were not ("alpha over white", "CMYK", "16-bit", ...) -> count."""
    examples: list[str] = field(default_factory=list)
    """The first bad ones, as "key: what is wrong"."""


class ImageStream(Protocol):
    """Pictures in the source's order; iterating again starts again, where the source allows it."""

    @property
    def name(self) -> str: ...

    @property
    def count(self) -> int | None:
        """Images in the source (of this shard), bad ones included, or None if that takes reading it."""
        ...

    @property
    def tally(self) -> Tally: ...

    def __iter__(self) -> Iterator[Picture]: ...
