"""Files that the tools behind the conventions read otherwise: in their order where they do, else with a flag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from ..data.readers.listing import is_image
from ..data.statistics.checks import Flag
from ..data.stream import NOT_READ
from ..errors import counted
from ..features.feature_set import Features
from ..metrics.rows import Rows

TEXT_ORDER = frozenset({"torch-fidelity", "clean-fid"})
"""Presets of the tools that sort the names of files as text."""


@dataclass(frozen=True, slots=True)
class FileRule:
    """Which files of a folder a tool takes, without options: of these suffixes, in sub-folders too or not."""

    tool: str
    suffixes: frozenset[str]
    any_case: bool
    deep: bool

    def takes(self, key: str) -> bool:
        """`key`: a "/"-separated name below the folder."""
        path = PurePosixPath(key)
        suffix = path.suffix.lower() if self.any_case else path.suffix
        return suffix[1:] in self.suffixes and (self.deep or len(path.parts) == 1)


_PILLOW = frozenset(["bmp", "jpg", "jpeg", "pgm", "png", "ppm", "tif", "tiff", "webp"])
_FIDELITY = FileRule("torch-fidelity", frozenset({"png", "jpg", "jpeg"}), any_case=True, deep=False)
FILE_RULES: Mapping[str, FileRule] = {
    "torch-fidelity": _FIDELITY,
    "torch-fidelity-2048": _FIDELITY,
    "clean-fid": FileRule("clean-fid", _PILLOW | {"npy", "JPEG", "JPG", "PNG"}, any_case=False, deep=True),
    "pytorch-fid": FileRule("pytorch-fid", _PILLOW, any_case=False, deep=False),
}
"""Convention -> rule of its tool (torch-fidelity 0.4.0, clean-fid 0.1.35, pytorch-fid 0.3.0; see docs/odd-files.md)."""

Side = Literal["samples", "reference"]

OVER_WHITE = ("alpha_over_white", "transparent pixels over white; the tools drop the alpha channel")
CONVERSIONS: Mapping[str, tuple[str, str]] = {
    "alpha over white": OVER_WHITE,
    "palette with transparency": OVER_WHITE,
    "16-bit": ("upper_8_bits", "the upper 8 of their 16 bits; the tools clip grey ones at 255"),
}
"""How pixels became RGB (see `Tally.converted`) -> flag and what was done.

The tools are torch-fidelity, clean-fid and pytorch-fid, which all call Pillow's `convert("RGB")`.
"""


def flags_of(features: Features, side: Side) -> list[Flag]:
    """What is odd about the files of one set."""
    found: dict[str, Flag] = {}
    for how, count in features.tally.converted.items():
        if how in CONVERSIONS:
            code, done = CONVERSIONS[how]
            were = "was" if count == 1 else "were"
            found.setdefault(code, Flag(code, f"{counted(count, 'image')} of the {side} {were} read with {done}"))
    others = [f"{count} {why}" for why, count in features.tally.skipped.items() if why.endswith(NOT_READ)]
    if others:
        sentence = f"beside the images of the {side} are {' and '.join(others)}; other tools may"
        found["files_passed_over"] = Flag("files_passed_over", sentence)
    return list(found.values())


def more_than(convention: str, features: Features | None) -> dict[str, int]:
    """Images of a set that the convention's tool would leave out: "in sub-folders" or "named .gif" -> count."""
    rule = FILE_RULES.get(convention)
    keys = [picture.key for picture in features.pictures] if features is not None and rule is not None else []
    found: Counter[str] = Counter()
    for key in keys:
        if rule is not None and is_image(key) and not rule.takes(key):
            alone = rule.takes(PurePosixPath(key).name)
            found["in sub-folders" if alone else f"named {PurePosixPath(key).suffix}"] += 1
    return dict(found)


def more_files(conventions: Iterable[str], sets: Mapping[Side, Features | None]) -> list[Flag]:
    """What of each side a convention's tool, run without options, would leave out and is read here."""
    found = []
    for convention in dict.fromkeys(conventions):
        for side, features in sets.items():
            if others := more_than(convention, features):
                counted = " and ".join(f"{count} {what}" for what, count in others.items())
                tool = FILE_RULES[convention].tool
                found.append(Flag("more_files_than_the_tool", f"of the {side}, {tool} would leave out {counted}"))
    return found


def in_text_order(rows: Rows, features: Features | None) -> Rows:
    """The vectors in the order in which torch-fidelity and clean-fid read the files: of names as text.

    "10.png" comes before "2.png"; their splits and subsets depend on it. Images without file names stay as they come.
    """
    keys = [picture.key for picture in features.pictures] if features is not None else []
    if len(keys) != len(rows) or not all(map(is_image, keys)):
        return rows
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return rows if order == list(range(len(keys))) else rows[np.array(order)]
