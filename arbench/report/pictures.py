"""Samples, reconstructions and edits as pictures in the page, the same ids for every model, within a size budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .folders import Entry, images

BUDGET = 2_300_000
"""Bytes of all pictures before base64, which adds a third; the page stays below 5 MB."""
SMALL = 64
"""Side up to which images are stored without loss, at their own size."""
RUNGS = ((192, 85), (128, 82), (96, 78), (64, 72), (48, 65))
"""Thumbnail side and WebP quality, tried in turn until the pictures fit."""
PROBES = 3
"""Images of each model that are encoded to choose a thumbnail size."""
AMPLIFIED = 4
"""Factor on the absolute differences, without which most look black."""
MOST_PAIRS = 16
MASKED = (214, 120, 44)
"""Colour of the masked part of an original."""

Uint8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    id: int
    label: int
    uri: str


@dataclass(frozen=True)
class Strip:
    """Pictures of one model. `note` tells rows of one adapter apart."""

    name: str
    note: str
    samples: tuple[Sample, ...]
    side: int


@dataclass(frozen=True)
class Gallery:
    """Strips of the same ids. `columns` puts the classes below each other where ids run through the classes."""

    title: str
    strips: tuple[Strip, ...]
    columns: int
    shown: int
    common: int
    """Ids that all of the models have."""


@dataclass(frozen=True)
class Pictures:
    """What is to be shown of one model, before it is encoded."""

    name: str
    note: str
    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    pixels: Uint8


def data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def encode(image: Uint8, side: int, quality: int) -> tuple[bytes, str]:
    """One (3, H, W) image: PNG as it is when small, else a WebP thumbnail of at most `side` pixels."""
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    buffer = io.BytesIO()
    if max(picture.size) <= SMALL:
        if (image == image[:1]).all():
            picture = picture.convert("L")
        picture.save(buffer, format="PNG", optimize=True)
        return buffer.getvalue(), "png"
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    picture.save(buffer, format="WEBP", quality=quality, method=4)
    return buffer.getvalue(), "webp"


def encode_all(sheets: Sequence[Uint8], budget: int) -> list[list[str]]:
    """Data URIs of the images of each sheet: the largest thumbnails that fit `budget` bytes, else fewer of them."""
    side, quality = next((rung for rung in RUNGS if _estimate(sheets, *rung) <= 0.9 * budget), RUNGS[-1])
    coded = [[encode(image, side, quality) for image in sheet] for sheet in sheets]
    sizes = [np.cumsum([len(data) for data, _ in sheet]) for sheet in coded]
    fits = sum(int(size[-1]) for size in sizes if len(size)) <= budget
    share = budget // max(len(sheets), 1)
    kept = [len(size) if fits else int((size <= share).sum()) for size in sizes]
    return [[data_uri(*one) for one in sheet[:count]] for sheet, count in zip(coded, kept, strict=True)]


def _estimate(sheets: Sequence[Uint8], side: int, quality: int) -> float:
    """Bytes of all images, from the first few of each sheet."""
    probes = [[len(encode(image, side, quality)[0]) for image in sheet[:PROBES]] for sheet in sheets]
    return sum(sum(sizes) / len(sizes) * len(sheet) for sheet, sizes in zip(sheets, probes, strict=True) if sizes)


def sample_pictures(entry: Entry, note: str) -> Pictures | None:
    """The samples of a `generate` cell."""
    arrays = entry.arrays("samples.npz")
    if arrays is None:
        return None
    pixels = images(arrays, "images", entry.folder / "samples.npz")
    ids = arrays.get("sample_ids", np.arange(len(pixels)))
    return Pictures(entry.result.adapter, note, ids, arrays.get("labels", np.full(len(pixels), -1)), pixels)


def sample_gallery(found: Sequence[Pictures], budget: int = BUDGET) -> Gallery | None:
    """The samples of all models at the ids that they share, side by side."""
    found = [pictures for pictures in found if len(pictures.ids)]
    if not found:
        return None
    common = sorted(set.intersection(*(set(pictures.ids.tolist()) for pictures in found)))
    if not common:
        return None
    picked = [_pick(pictures, common) for pictures in found]
    uris = encode_all([pictures.pixels for pictures in picked], budget)
    shown = min(len(sheet) for sheet in uris)
    strips = tuple(_strip(pictures, sheet[:shown]) for pictures, sheet in zip(picked, uris, strict=True))
    return Gallery("Samples", strips, _grid_columns(picked[0].labels), shown, len(common))


def reconstruction_gallery(found: Sequence[tuple[str, str, Entry]], title: str, budget: int) -> Gallery | None:
    """Originals, then the reconstruction and the absolute difference of each tokenizer, one column per image id."""
    loaded = [(name, note, entry, arrays) for name, note, entry in found if (arrays := entry.arrays("pairs.npz"))]
    if not loaded:
        return None
    common = sorted(set.intersection(*(set(arrays["ids"].tolist()) for *_, arrays in loaded)))[:MOST_PAIRS]
    rows: list[Pictures] = []
    for name, note, entry, arrays in loaded:
        where = entry.folder / "pairs.npz"
        ids = arrays["ids"]
        blank = np.full(len(ids), -1)
        before, after = images(arrays, "originals", where), images(arrays, "reconstructions", where)
        difference = np.abs(before.astype(np.int16) - after.astype(np.int16)) * AMPLIFIED
        if not rows:
            rows.append(_pick(Pictures("original", "", ids, blank, before), common))
        rows.append(_pick(Pictures(name, note, ids, blank, after), common))
        clipped = difference.clip(0, 255).astype(np.uint8)
        rows.append(_pick(Pictures(f"|difference| × {AMPLIFIED}", name, ids, blank, clipped), common))
    return _columns(rows, title, budget, len(common))


def edit_gallery(found: Sequence[tuple[str, Entry]], title: str, budget: int) -> Gallery | None:
    """Originals, what is left of them outside the mask, and each model's edits, one column per image id.

    The labels of the first row are the classes of the originals, those of the others the classes asked for.
    """
    loaded = [(name, entry, arrays) for name, entry in found if (arrays := entry.arrays("edits.npz"))]
    if not loaded:
        return None
    common = sorted(set.intersection(*(set(arrays["ids"].tolist()) for *_, arrays in loaded)))[:MOST_PAIRS]
    rows: list[Pictures] = []
    for name, entry, arrays in loaded:
        where = entry.folder / "edits.npz"
        ids, asked = arrays["ids"], arrays["asked"]
        if not rows:
            before = images(arrays, "originals", where)
            masked = np.where(arrays["mask"], np.array(MASKED, dtype=np.uint8)[:, None, None], before)
            rows.append(_pick(Pictures("original", "", ids, arrays["classes"], before), common))
            rows.append(_pick(Pictures("mask", "", ids, asked, masked), common))
        rows.append(_pick(Pictures(name, entry.result.adapter, ids, asked, images(arrays, "edited", where)), common))
    return _columns(rows, title, budget, len(common))


def _columns(rows: Sequence[Pictures], title: str, budget: int, common: int) -> Gallery | None:
    """A gallery with a column for each id, None if not one picture of each row fits the budget."""
    uris = encode_all([pictures.pixels for pictures in rows], budget)
    shown = min((len(sheet) for sheet in uris), default=0)
    if shown == 0:
        return None
    strips = tuple(_strip(pictures, sheet[:shown]) for pictures, sheet in zip(rows, uris, strict=True))
    return Gallery(title, strips, shown, shown, common)


def _pick(pictures: Pictures, ids: Sequence[int]) -> Pictures:
    place = {int(value): index for index, value in enumerate(pictures.ids)}
    rows = np.array([place[value] for value in ids], dtype=np.int64)
    return Pictures(pictures.name, pictures.note, pictures.ids[rows], pictures.labels[rows], pictures.pixels[rows])


def _strip(pictures: Pictures, uris: Sequence[str]) -> Strip:
    samples = tuple(
        Sample(int(number), int(label), uri)
        for number, label, uri in zip(pictures.ids, pictures.labels, uris, strict=False)
    )
    return Strip(pictures.name, pictures.note, samples, max(pictures.pixels.shape[2:]))


def _grid_columns(labels: NDArray[np.int64]) -> int:
    """The number of classes where labels repeat with that period and a row of them fits, else 8."""
    for period in range(2, 13):
        whole = labels[: len(labels) // period * period].reshape(-1, period)
        if len(whole) > 1 and (whole == whole[0]).all() and len(set(whole[0].tolist())) == period:
            return period
    return 8
