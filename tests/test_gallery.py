"""Pictures of a cell: stored and read again, laid out as one image, and refused if damaged."""

from __future__ import annotations

import io
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arbench.errors import DamagedFile
from arbench.gallery import Gallery
from arbench.images import pack, unpack

DRAW = np.random.default_rng(0)
ROWS = Gallery(
    "Reconstructions of “mine”",
    "rows",
    "The first images, not selected.",
    np.arange(5) * 7,
    np.array([[0, 1, 2, 3, 4], [-1, -1, -1, -1, -1]]),
    ("original", ""),
    (True, False),
    DRAW.integers(0, 256, (2, 5, 3, 8, 6), dtype=np.uint8),
)
SHEET = Gallery(
    "Samples",
    "sheet",
    "",
    np.arange(13),
    np.full((1, 13), -1),
    ("",),
    (False,),
    DRAW.integers(0, 256, (1, 13, 3, 4, 4), dtype=np.uint8),
)
DRAWN = replace(SHEET, title="Samples of prompts", prompts=tuple(f"a cat, number {number}" for number in range(13)))


def same(one: Gallery, other: Gallery) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(Gallery)]
    return all(np.array_equal(a, b) and np.asarray(a).dtype == np.asarray(b).dtype for a, b in pairs)


@pytest.mark.parametrize("gallery", [ROWS, SHEET, DRAWN], ids=["rows", "sheet", "prompts"])
def test_what_is_packed_is_read(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "pictures.npz"
    path.write_bytes(gallery.pack())
    found = Gallery.read(path)
    assert same(found, gallery)
    assert [type(value) for value in (found.title, *found.names, *found.shared)] == [
        type(value) for value in (gallery.title, *gallery.names, *gallery.shared)
    ]
    assert found.pack() == gallery.pack()


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_rows_are_lines_of_the_sheet() -> None:
    sheet = pixels(ROWS.sheet())
    assert sheet.shape == (2 * 8 + 2, 5 * 6 + 4 * 2, 3)
    np.testing.assert_array_equal(sheet[10:18, 16:22], ROWS.images[1, 2].transpose(1, 2, 0))
    np.testing.assert_array_equal(pixels(ROWS.sheet(columns=2)), sheet)  # a line is not broken


@pytest.mark.parametrize(("columns", "shape"), [(10, (2 * 6 - 2, 10 * 6 - 2)), (40, (4, 13 * 6 - 2)), (1, (76, 4))])
def test_a_sheet_has_so_many_columns_at_most(columns: int, shape: tuple[int, int]) -> None:
    sheet = pixels(SHEET.sheet(columns))
    assert sheet.shape == (*shape, 3)
    row, column = divmod(12, min(columns, 13))
    np.testing.assert_array_equal(
        sheet[row * 6 : row * 6 + 4, column * 6 : column * 6 + 4], SHEET.images[0, 12].transpose(1, 2, 0)
    )


def without(name: str) -> bytes:
    arrays = unpack(ROWS.pack())
    del arrays[name]
    return pack(arrays)


DAMAGED = {
    "empty": b"",
    "cut off": ROWS.pack()[:-40],
    "not a zip": b"PK and more",
    "an image": ROWS.sheet(),
    "no images": without("images"),
    "no names": without("names"),
    "no layout": without("layout"),
    "floats": replace(ROWS, images=ROWS.images.astype(np.float32)).pack(),  # type: ignore[arg-type]
    "grey": replace(ROWS, images=ROWS.images[:, :, :1]).pack(),
    "four axes": replace(ROWS, images=ROWS.images[0]).pack(),
    "a name too many": replace(ROWS, names=("a", "b", "c")).pack(),
    "an id too few": replace(ROWS, ids=ROWS.ids[:4]).pack(),
    "labels of one row": replace(ROWS, labels=ROWS.labels[:1]).pack(),
    "shared too short": replace(ROWS, shared=(True,)).pack(),
    "a prompt too few": replace(ROWS, prompts=("a cat",)).pack(),
    "another layout": replace(ROWS, layout="spiral").pack(),  # type: ignore[arg-type]
    "words as ids": replace(ROWS, ids=np.array(list("abcde"))).pack(),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_pictures_are_a_store_error(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pictures.npz"
    path.write_bytes(data)
    with pytest.raises(DamagedFile) as caught:
        Gallery.read(path)
    assert caught.value.what == f"cannot use the pictures in {path}"
    assert caught.value.why
    assert "arbench resume" in caught.value.hint


def test_pictures_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="No such file"):
        Gallery.read(tmp_path / "pictures.npz")


@pytest.mark.parametrize("flip", [0x01, 0x40, 0x5A])
def test_a_flipped_byte_is_noticed_or_harmless(flip: int, tmp_path: Path) -> None:
    """Never another error than ours: a report leaves out one cell's pictures, and is written."""
    whole, path, noticed = ROWS.pack(), tmp_path / "pictures.npz", 0
    places = range(flip % 5, len(whole), 5)
    for position in places:
        data = bytearray(whole)
        data[position] ^= flip
        path.write_bytes(data)
        try:
            Gallery.read(path)
        except DamagedFile:
            noticed += 1
    assert noticed > len(places) / 2
