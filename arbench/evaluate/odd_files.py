"""Files that the tools behind the conventions read otherwise: in their order where they do, else with a flag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from ..data.readers.listing import is_image
from ..data.statistics.checks import Flag
from ..data.stream import NOT_READ
from ..features.feature_set import Features
from ..metrics.rows import Rows

TEXT_ORDER = frozenset({"torch-fidelity", "clean-fid"})
"""Presets of the tools that sort the names of files as text."""

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
            found.setdefault(code, Flag(code, f"{count} images of the {side} were read with {done}"))
    others = [f"{count} {why}" for why, count in features.tally.skipped.items() if why.endswith(NOT_READ)]
    if others:
        sentence = f"beside the images of the {side} are {' and '.join(others)}; other tools may"
        found["files_passed_over"] = Flag("files_passed_over", sentence)
    return list(found.values())


def in_text_order(rows: Rows, features: Features | None) -> Rows:
    """The vectors in the order in which torch-fidelity and clean-fid read the files: of names as text.

    "10.png" comes before "2.png"; their splits and subsets depend on it. Images without file names stay as they come.
    """
    keys = [picture.key for picture in features.pictures] if features is not None else []
    if len(keys) != len(rows) or not all(map(is_image, keys)):
        return rows
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return rows if order == list(range(len(keys))) else rows[np.array(order)]
