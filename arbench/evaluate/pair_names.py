"""Which images of two sets belong together, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

EXTENSION = re.compile(r"\.(png|jpe?g|webp|bmp|tiff?|gif|p[bgpn]m|npy)$", re.IGNORECASE)
NUMBERED = re.compile(r"(?P<before>\D*)(?P<number>\d{1,4000})(?P<after>\D*)")
LAST = re.compile(r"(?P<before>(.*\D)?)(?P<number>\d{1,4000})(?P<after>\D*)", re.DOTALL)
RULES = 2
"""Raised when other names than before are those of pairs: pairs that were kept are then compared again."""


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

    A sample's original has the same name but for its extension and the zeros before its number. Where all names of a
    set are the same but for their last number, and the other set's are so too around it ("rec_7.png" and
    "val_00000007.png"), the number decides; or, of as many images numbered in step, the place if the two sets share no
    numbers ("0.png" to "9.png" and "val_100.png" to "val_109.png"). Where a set has a name twice ("3.bmp" and
    "003.png"), only whole names tell its images apart.
    """

    samples: int | None
    """How many there are, if that is known."""
    originals: int | None
    overlap: bool = False
    """Whether a pair was refused for its place alone: its sets share numbers, and their places shift them."""
    _step: int | None = None
    """What the number of an original's name has over its sample's, where the sets are numbered apart."""
    _around: tuple[tuple[str, str], ...] | None = None
    """Of samples and originals: what all names have around their last number, where that is not the same."""
    _parents: tuple[str, str] | None = None
    """The folder of each set, where they are numbered apart in folders of other names."""
    _spans: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    """Of samples and originals: least and largest number so far, where the sets are numbered apart."""
    _whole: tuple[dict[Stem, bool], dict[Stem, bool]] = field(default_factory=lambda: ({}, {}))
    """Of samples and originals: whether the last pair with this stem had the same whole name."""

    @property
    def by_place(self) -> bool:
        """Whether any pair so far has its place alone to go by."""
        return bool(self._step)

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
        names = [PurePosixPath(name) for name in (mine, theirs)]
        one, other = (NUMBERED.fullmatch(name.name) for name in names)
        if one and other and (one["before"], one["after"]) == (other["before"], other["after"]):
            return int(one["number"]) == int(other["number"]) and names[0].parent == names[1].parent
        one, other = (LAST.fullmatch(name.name) for name in names)
        return one is not None and other is not None and self._numbered_apart(names, (one, other))

    def _numbered_apart(self, names: Sequence[PurePosixPath], found: tuple[re.Match[str], re.Match[str]]) -> bool:
        around = tuple((each["before"], each["after"]) for each in found)
        parents = (str(names[0].parent), str(names[1].parent))
        mine, theirs = (int(each["number"]) for each in found)
        if self._around is None:
            self._around, self._step = around, theirs - mine
        if parents[0] != parents[1] and self._parents is None:
            self._parents = parents
        if around != self._around or parents not in (self._parents, (parents[0], parents[0])):
            return False
        if theirs - mine != self._step or self.samples != self.originals:
            return False
        for span, number in zip(self._spans, (mine, theirs), strict=True):
            span[:] = (min([number, *span]), max([number, *span]))
        (low, high), (least, most) = self._spans
        self.overlap = self._step != 0 and low <= most and least <= high
        return not self.overlap

    def first_apart(self, samples: Sequence[str], originals: Sequence[str]) -> tuple[str, str] | None:
        """The first keys at one place that do not belong together, or None."""
        pairs = zip(samples, originals, strict=True)
        return next(((mine, theirs) for mine, theirs in pairs if not self.match(mine, theirs)), None)
