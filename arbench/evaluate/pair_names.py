"""Which images of two sets belong together, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

EXTENSION = re.compile(r"\.(png|jpe?g|webp|bmp|tiff?|gif|p[bgpn]m|npy)$", re.IGNORECASE)
NUMBERED = re.compile(r"(?P<before>\D*)(?P<number>\d+)(?P<after>\D*)")


Stem = tuple[str, str, int, str]


def stem(key: str) -> Stem:
    """A key without its extension and the zeros before its number: its folder, and the name around the number."""
    path = PurePosixPath(EXTENSION.sub("", key))
    found = NUMBERED.fullmatch(path.name)
    if found is None:
        return str(path.parent), path.name, -1, ""
    return str(path.parent), found["before"], int(found["number"]), found["after"]


@dataclass(slots=True)
class PairNames:
    """Asked of one pair after another, in the order of their places.

    A sample's original has the same name but for its extension and the zeros before its number. Where the names of the
    two sets are numbered apart ("0.png" and "val_00000001.png"), the place decides, if the numbers run in step and both
    sets have as many images. Where a set has a name twice ("3.bmp" and "003.png"), only whole names tell its images
    apart.
    """

    samples: int | None
    """How many there are, if that is known."""
    originals: int | None
    _step: int | None = None
    """What the number of an original's name has over its sample's, where the sets are numbered apart."""
    _whole: tuple[dict[Stem, bool], dict[Stem, bool]] = field(default_factory=lambda: ({}, {}))
    """Of samples and originals: whether the last pair with this stem had the same whole name."""

    @property
    def by_place(self) -> bool:
        """Whether any pair so far has its place alone to go by."""
        return self._step is not None

    def match(self, sample: str, original: str) -> bool:
        """Whether two keys at one place belong together, and no earlier pair has put that in doubt."""
        whole, doubt = sample == original, False
        for seen, key in zip(self._whole, (sample, original), strict=True):
            doubt |= not (seen.get(stem(key), True) and (whole or stem(key) not in seen))
            seen[stem(key)] = whole
        return not doubt and self._alike(sample, original)

    def _alike(self, sample: str, original: str) -> bool:
        mine, theirs = (EXTENSION.sub("", key) for key in (sample, original))
        if mine == theirs:
            return True
        one, other = (NUMBERED.fullmatch(PurePosixPath(name).name) for name in (mine, theirs))
        if one is None or other is None:
            return False
        step = int(other["number"]) - int(one["number"])
        if (one["before"], one["after"]) == (other["before"], other["after"]):
            return step == 0 and PurePosixPath(mine).parent == PurePosixPath(theirs).parent
        if self._step is None:
            self._step = step
        return step == self._step and self.samples == self.originals

    def first_apart(self, samples: Sequence[str], originals: Sequence[str]) -> tuple[str, str] | None:
        """The first keys at one place that do not belong together, or None."""
        pairs = zip(samples, originals, strict=True)
        return next(((mine, theirs) for mine, theirs in pairs if not self.match(mine, theirs)), None)
