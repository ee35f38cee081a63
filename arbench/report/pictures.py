"""Galleries as pictures in the page, the same ids for every model, within a size budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import artifacts
from ..gallery import Gallery, Layout
from ..spec.card import Card
from ..spec.task import distinctions
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
SHARE_OF_WORST = 0.25
"""Of the bytes that another gallery has."""
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
    through the classes; `labels` are, for each id, the classes in its rows, each once, by name if they have one."""

    title: str
    lead: str
    layout: Layout
    strips: tuple[Strip, ...]
    columns: int
    labels: tuple[tuple[str, ...], ...]
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
    found: dict[_Key, list[_Named]] = {}
    words: dict[_Key, list[tuple[str, ...]]] = {}
    for what in get_args(artifacts.Pictures):
        for each in _named(entries, what):
            if len(each.gallery.ids):
                own = ("", "") if what == "pictures" else (each.name, each.entry.result.result_id)
                key = _Key(each.gallery.title, each.gallery.layout, each.gallery.prompts, *own)
                found.setdefault(key, []).append(each)
                words.setdefault(key, []).append(class_words(cards.get(each.entry.result.adapter)))
    share = BUDGET / max(1.0, sum(SHARE_OF_WORST if key.worst_of else 1.0 for key in found))
    shown = [
        together(
            [(each.name, each.gallery) for each in _once(found[key])],
            int(share * (SHARE_OF_WORST if key.worst_of else 1.0)),
            words[key][0] if all(own == words[key][0] for own in words[key]) else (),
            key.worst_of,
        )
        for key in sorted(found, key=lambda key: (key.layout != "sheet", key.worst_of != ""))
    ]
    return [each for each in shown if each is not None]


class _Key(NamedTuple):
    """What galleries that are shown together share. The worst of each result are a gallery of their own."""

    title: str
    layout: Layout
    prompts: tuple[str, ...]
    worst_of: str
    result_id: str


def unranked(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Models whose worst pictures are not known, and why."""
    found = [(each.name, each.gallery.lead) for each in _named(entries, "worst") if not len(each.gallery.ids)]
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class _Named:
    """A gallery of `model`; `tasks`: what tells the tasks that it is of from others, for each of them."""

    model: str
    tasks: tuple[str, ...]
    entry: Entry
    gallery: Gallery

    @property
    def name(self) -> str:
        words = ("; " if any(", " in task for task in self.tasks) else " and ").join(filter(None, self.tasks))
        return f"{self.model}, {words}" if words else self.model


def _named(entries: Sequence[Entry], what: artifacts.Pictures) -> list[_Named]:
    """Each gallery with a name for its pictures: of two tasks of a model under one title with what tells them apart."""
    called = names(entry.result for entry in entries)
    known = [(entry, gallery) for entry in entries if (gallery := entry.gallery(what)) is not None]
    titled = [called[entry.result.adapter, entry.result.settings_id] for entry, _ in known]
    told = distinctions(
        [
            (f"{name}: {gallery.title}", entry.result.task, entry.result.parameters)
            for name, (entry, gallery) in zip(titled, known, strict=True)
        ]
    )
    return [
        _Named(name, (words,), entry, gallery)
        for name, words, (entry, gallery) in zip(titled, told, known, strict=True)
    ]


def _once(found: Sequence[_Named]) -> list[_Named]:
    """Galleries of one model that show the same, as of tasks that differ in their reference alone, become one."""
    kept: list[_Named] = []
    for each in found:
        place = next((i for i, other in enumerate(kept) if other.model == each.model and _alike(other, each)), None)
        if place is None:
            kept.append(each)
        else:
            shorter = min(kept[place], each, key=lambda one: len(one.gallery.ids))
            kept[place] = replace(shorter, tasks=tuple(dict.fromkeys(kept[place].tasks + each.tasks)))
    return kept


def _alike(one: _Named, other: _Named) -> bool:
    """Whether both galleries show the same at the ids that they share."""
    ids = sorted(set(one.gallery.ids.tolist()) & set(other.gallery.ids.tolist()))
    first, second = ([_picked(row, ids) for row in _rows([("", each.gallery)])] for each in (one, other))
    return bool(ids) and len(first) == len(second) and all(map(_same_row, first, second))


def _same_row(one: _Row, other: _Row) -> bool:
    return (
        (one.name, one.prompts) == (other.name, other.prompts)
        and np.array_equal(one.labels, other.labels)
        and np.array_equal(one.pixels, other.pixels)
    )


def together(
    found: Sequence[tuple[str, Gallery]], budget: int = BUDGET, words: Sequence[str] = (), worst_of: str = ""
) -> Shown | None:
    """The pictures of several models at the ids that all share, None where no picture fits the budget. words: names of
    the classes by label, where they have some. worst_of: the one model whose worst they are; they keep their order.
    """
    first = found[0][1]
    shared = set.intersection(*(set(gallery.ids.tolist()) for _, gallery in found))
    common = first.ids.tolist() if worst_of or len(found) == 1 else sorted(shared)
    ids = common[:MOST_COLUMNS] if first.layout == "rows" else common
    rows = [_picked(row, ids) for row in _rows(found)] if ids else []
    uris = encode_all([row.pixels for row in rows], budget)
    shown = min((len(sheet) for sheet in uris), default=0)
    if shown == 0:
        return None
    labels = tuple(
        tuple(dict.fromkeys(_word(int(row.labels[place]), words) for row in rows if row.labels[place] >= 0))
        for place in range(shown)
    )
    return Shown(
        f"{first.title} by {worst_of}" if worst_of else first.title,
        first.lead,
        first.layout,
        tuple(_strip(row, sheet[:shown], words) for row, sheet in zip(rows, uris, strict=True)),
        shown if first.layout == "rows" else _grid_columns(rows[0].labels),
        labels,
        shown,
        len(common),
        worst_of != "",
    )


def _word(label: int, words: Sequence[str]) -> str:
    """The name of a class, or its number where it has none."""
    return words[label] if 0 <= label < len(words) else str(label)


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
