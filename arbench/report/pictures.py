"""Galleries as pictures in the page, the same ids for every model, within a size budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..gallery import Gallery, Layout
from ..spec.card import Card
from .class_words import class_words
from .folders import Entry
from .rows import names

BUDGET = 2_300_000
"""Bytes of all pictures before base64, which adds a third; the page stays below 5 MB."""
SMALL = 64
"""Side up to which images are stored without loss, at their own size."""
RUNGS = ((192, 85), (128, 82), (96, 78), (64, 72), (48, 65))
"""Thumbnail side and WebP quality, tried in turn until the pictures fit."""
PROBES = 3
"""Images of each model that are encoded to choose a thumbnail size."""
MOST_COLUMNS = 16
"""Images of a gallery in rows."""

Uint8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    id: int
    label: int
    uri: str
    prompt: str = ""
    word: str = ""
    """The class, where it has a name."""


@dataclass(frozen=True)
class Strip:
    """Pictures of one kind: a row, or one model's sheet. `model`: it stands for the model itself, and bears its name;
    `last`: the last row of its model, or of those that all share."""

    name: str
    alt: str
    samples: tuple[Sample, ...]
    side: int
    model: bool = True
    last: bool = False


@dataclass(frozen=True)
class Shown:
    """Galleries of one title, of all models. `columns` of a sheet puts the classes below each other where ids run
    through the classes; `labels` are, for each id, the labels in its rows, each once."""

    title: str
    lead: str
    layout: Layout
    strips: tuple[Strip, ...]
    columns: int
    labels: tuple[tuple[int, ...], ...]
    shown: int
    common: int
    """Ids that all of the models have."""
    ordered: bool = False
    """In an order of their own, worst first, and not by id."""


@dataclass(frozen=True)
class _Row:
    name: str
    alt: str
    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    pixels: Uint8
    model: bool
    last: bool
    prompts: tuple[str, ...] = ()
    """One for each id, or none."""


def galleries(entries: Sequence[Entry], cards: Mapping[str, Card]) -> list[Shown]:
    """All pictures, within one budget: those of one title and layout together, sheets first, the worst last."""
    called = names(entry.result for entry in entries)
    found: dict[tuple[str, Layout, tuple[str, ...]], list[tuple[str, Gallery]]] = {}
    words: dict[tuple[str, Layout, tuple[str, ...]], list[tuple[str, ...]]] = {}
    for entry in entries:
        for gallery in entry.galleries():
            if len(gallery.ids):
                name = called[entry.result.adapter, entry.result.settings_id]
                key = gallery.title, gallery.layout, gallery.prompts
                found.setdefault(key, []).append((name, gallery))
                words.setdefault(key, []).append(class_words(cards.get(entry.result.adapter)))
    share = BUDGET // max(1, len(found))

    def place(key: tuple[str, Layout, tuple[str, ...]]) -> tuple[bool, bool]:
        return key[1] != "sheet", any(_own_order(gallery) for _, gallery in found[key])

    shown = [
        together(found[key], share, words[key][0] if all(own == words[key][0] for own in words[key]) else ())
        for key in sorted(found, key=place)
    ]
    return [each for each in shown if each is not None]


def _own_order(gallery: Gallery) -> bool:
    return bool((np.diff(gallery.ids) < 0).any())


def together(found: Sequence[tuple[str, Gallery]], budget: int = BUDGET, words: Sequence[str] = ()) -> Shown | None:
    """The pictures of several models at the ids that all share, None where no picture fits the budget. Those of one
    model alone keep their order. words: names of the classes by label, where they have some.
    """
    first = found[0][1]
    shared = set.intersection(*(set(gallery.ids.tolist()) for _, gallery in found))
    common = first.ids.tolist() if len(found) == 1 else sorted(shared)
    ids = common[:MOST_COLUMNS] if first.layout == "rows" else common
    rows = [_picked(row, ids) for row in _rows(found)] if ids else []
    uris = encode_all([row.pixels for row in rows], budget)
    shown = min((len(sheet) for sheet in uris), default=0)
    if shown == 0:
        return None
    labels = tuple(
        tuple(dict.fromkeys(int(row.labels[place]) for row in rows if row.labels[place] >= 0)) for place in range(shown)
    )
    return Shown(
        first.title,
        first.lead,
        first.layout,
        tuple(_strip(row, sheet[:shown], words) for row, sheet in zip(rows, uris, strict=True)),
        shown if first.layout == "rows" else _grid_columns(rows[0].labels),
        labels,
        shown,
        len(common),
        _own_order(first) and len(found) == 1,
    )


def _rows(found: Sequence[tuple[str, Gallery]]) -> list[_Row]:
    """The rows that all share, once, then each model's own."""
    first = found[0][1]
    shared = [index for index, same in enumerate(first.shared) if same]
    rows = []
    for index, last in _with_last(shared):
        name, labels, pixels = first.names[index], first.labels[index], first.images[index]
        rows.append(_Row(name, name, first.ids, labels, pixels, False, last))
    for model, gallery in found:
        own = [index for index, same in enumerate(gallery.shared) if not same]
        for index, last in _with_last(own):
            name = gallery.names[index]
            alt = f"{name} of {model}" if name else model
            labels, pixels = gallery.labels[index], gallery.images[index]
            rows.append(_Row(name or model, alt, gallery.ids, labels, pixels, not name, last, gallery.prompts))
    return rows


def _with_last(indices: Sequence[int]) -> list[tuple[int, bool]]:
    return [(index, index == indices[-1]) for index in indices]


def _picked(row: _Row, ids: Sequence[int]) -> _Row:
    place = {int(value): index for index, value in enumerate(row.ids)}
    kept = np.array([place[value] for value in ids], dtype=np.int64)
    prompts = tuple(row.prompts[index] for index in kept) if row.prompts else ()
    return replace(row, ids=row.ids[kept], labels=row.labels[kept], pixels=row.pixels[kept], prompts=prompts)


def _strip(row: _Row, uris: Sequence[str], words: Sequence[str]) -> Strip:
    samples = tuple(
        Sample(
            int(number),
            int(label),
            uri,
            row.prompts[place] if row.prompts else "",
            words[label] if 0 <= label < len(words) else "",
        )
        for place, (number, label, uri) in enumerate(zip(row.ids, row.labels, uris, strict=False))
    )
    return Strip(row.name, row.alt, samples, max(row.pixels.shape[2:]), row.model, row.last)


def data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def encode(image: Uint8, side: int, quality: int) -> tuple[bytes, str]:
    """One (3, H, W) image: as it is when small, the shorter of PNG and WebP without loss; else a WebP thumbnail of at
    most `side` pixels.
    """
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    buffer = io.BytesIO()
    if max(picture.size) <= SMALL:
        if (image == image[:1]).all():
            picture = picture.convert("L")
        picture.save(buffer, format="PNG", optimize=True)
        other = io.BytesIO()
        picture.convert("RGB").save(other, format="WEBP", lossless=True, quality=80, method=4)
        found = (buffer.getvalue(), "png"), (other.getvalue(), "webp")
        return min(found, key=lambda coded: len(coded[0]))
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


def _grid_columns(labels: NDArray[np.int64]) -> int:
    """The number of classes where labels repeat with that period and a row of them fits, else 8."""
    for period in range(2, 13):
        whole = labels[: len(labels) // period * period].reshape(-1, period)
        if len(whole) > 1 and (whole == whole[0]).all() and len(set(whole[0].tolist())) == period:
            return period
    return 8
