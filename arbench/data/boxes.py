"""Boxes around objects: those of a file beside images, and packaged photographs seen from near and far."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError

FACE = "face"
"""The label of boxes around faces."""
FORM = "a CSV file with the columns image, x, y, width, height and perhaps label, or a JSON list of such objects"
ZOOMS = (1.5, 3.0, 6.0)
"""Sides of the square windows around an object, in longer sides of its box."""


@dataclass(frozen=True, slots=True)
class Box:
    """Columns `left` to `right` - 1 and rows `top` to `bottom` - 1 of an image, in pixels, and what is in them."""

    left: int
    top: int
    right: int
    bottom: int
    label: str = ""

    @property
    def side(self) -> float:
        """Of the square of equal area, in pixels."""
        return math.sqrt((self.right - self.left) * (self.bottom - self.top))


@dataclass(frozen=True, slots=True)
class Window:
    """An image (3, side, side) of bytes with one box, of the photograph of this number."""

    image: NDArray[np.uint8]
    box: Box
    photograph: int


PHOTOGRAPHS: tuple[tuple[str, tuple[Box, ...]], ...] = (
    (
        "astronaut",
        (Box(180, 72, 272, 187, FACE), Box(130, 345, 215, 427, "patch"), Box(277, 338, 331, 376, "badge")),
    ),
    ("chelsea", (Box(137, 80, 209, 150, "eye"), Box(297, 105, 352, 167, "eye"), Box(240, 222, 292, 267, "nose"))),
    ("coffee", (Box(170, 15, 410, 260, "cup"), Box(325, 245, 407, 327, "spoon"))),
    ("rocket", (Box(308, 125, 338, 405, "rocket"), Box(182, 375, 212, 405, "lamp"))),
)
"""Photographs in the package scikit-image by the names of their functions, and boxes that were drawn by hand."""


def windows(side: int) -> list[Window]:
    """Square windows of the photographs around each box, `ZOOMS` times as wide as it, scaled to `side` pixels.

    One that is larger than the photograph is left out. They are moved so that they lie within it.
    """
    from skimage import data

    found = []
    for number, (name, boxes) in enumerate(PHOTOGRAPHS):
        picture = Image.fromarray(getattr(data, name)())
        width, height = picture.size
        for box in boxes:
            for zoom in ZOOMS:
                wide = round(zoom * max(box.right - box.left, box.bottom - box.top))
                if wide > min(width, height):
                    continue
                left = min(max((box.left + box.right - wide) // 2, 0), width - wide)
                top = min(max((box.top + box.bottom - wide) // 2, 0), height - wide)
                window = picture.crop((left, top, left + wide, top + wide))
                scaled = window.resize((side, side), Image.Resampling.LANCZOS)
                ends = (box.left - left, box.top - top, box.right - left, box.bottom - top)
                x, y, right, bottom = (round(end * side / wide) for end in ends)
                moved = Box(x, y, right, bottom, box.label)
                if moved.right > moved.left and moved.bottom > moved.top:
                    found.append(Window(np.ascontiguousarray(np.asarray(scaled).transpose(2, 0, 1)), moved, number))
    return found


def read_boxes(path: Path, keys: Sequence[str], size: tuple[int, int]) -> list[tuple[int, Box]]:
    """(place of the image, box) of a file, in its order. `keys`: names of the images; `size`: their height and width.

    An image is told by its name, with or without folders and extension, or by its place from 0. Raises InputError for
    a file of another form, for an image that is not there or not the only one so called, and for a box that does not
    lie within the image.
    """
    called: dict[str, set[int]] = {}
    for place, key in enumerate(keys):
        for name in (key, Path(key).name, str(Path(key).with_suffix("")), Path(key).stem, str(place)):
            called.setdefault(name, set()).add(place)
    whole = {key: place for place, key in enumerate(keys)}
    found = []
    for number, row in enumerate(_rows(path)):
        where = f"{path}, box {number}"
        try:
            x, y, width, height = (float(row[name]) for name in ("x", "y", "width", "height"))
            ends = [round(end) for end in (x, y, x + width, y + height)]
            image = str(row["image"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{where} cannot be read", f"{type(error).__name__}: {error}", f"write {FORM}") from None
        meant = {whole[image]} if image in whole else called.get(image, set())
        if not meant:
            raise InputError(f"{where}: no image {image}", f"images are {', '.join(list(keys)[:3])}, ...", "name one")
        if len(meant) > 1:
            several = " and ".join(keys[place] for place in sorted(meant)[:3])
            raise InputError(f"{where}: {image} may be {several}", "names and places both count", "name it in full")
        box = Box(ends[0], ends[1], ends[2], ends[3], str(row.get("label") or ""))
        if not (0 <= box.left < box.right <= size[1] and 0 <= box.top < box.bottom <= size[0]):
            what = f"it is {x:g}, {y:g}, {width:g} x {height:g}, and the image {size[1]} x {size[0]}"
            raise InputError(f"{where} is not within its image", what, "give x, y, width, height in pixels")
        found.append((next(iter(meant)), box))
    if not found:
        raise InputError(f"{path} holds no boxes", "", f"write {FORM}")
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() != ".json":
            return list(csv.DictReader(io.StringIO(text)))
        rows = json.loads(text)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("it is not a list of objects")
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"cannot read {path}", str(error), f"write {FORM}") from None
    return rows
