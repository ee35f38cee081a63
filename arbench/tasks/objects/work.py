"""The work of `objects`: images with boxes through the tokenizer, and what is lost inside each box."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...data.boxes import FACE, Box, read_boxes, windows
from ...errors import InputError, PrerequisiteError, Unsupported
from ...gallery import Gallery
from ...metrics.estimate import Estimate, missing, of_totals
from ...metrics.faces import WEIGHTS, Faces
from ...protocols import Tokenizer
from ...spec.cell import Cell
from ...spec.result import At, Metric
from ...spec.task import Data
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..outputs import decode, encode, join, load
from . import PACKAGED, Objects

Images = NDArray[np.uint8]
EDGES = (16, 32, 64, 128)
"""Sides in pixels, of the square of equal area, at which boxes are told apart."""
SIZES = ("below 16", *(f"{low} to {high}" for low, high in itertools.pairwise(EDGES)), f"from {EDGES[-1]}")
LEAST = 1 / 3
"""Mean square error that an identical box counts with, in squared levels: one value in three off by one."""


class ObjectsWork:
    """A unit is a range of images. Stored are pixels, sums of squared errors, side and label of each box."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, Objects)
        seen = _given(task, tokenizer, range(unit.start, unit.stop), context)
        images, places, boxes = seen.images, seen.places, seen.boxes
        after = images
        if len(images):
            starts = range(0, len(images), task.batch)
            codes = join([encode(tokenizer, images[at : at + task.batch], context.device) for at in starts])
            after = decode(tokenizer, codes, seen.ids, images.shape[2:]).numpy()
        context.progress(len(images))
        squares = ((after.astype(np.float64) - images) ** 2).mean(1)  # (n, H, W)
        inside = np.zeros(squares.shape, np.bool_)
        sums = np.zeros((len(boxes), 2))
        for number, (place, box) in enumerate(zip(places, boxes, strict=True)):
            inside[place, box.top : box.bottom, box.left : box.right] = True
            part = squares[place, box.top : box.bottom, box.left : box.right]
            sums[number] = part.size, part.sum()
        outside = np.stack([(~inside).sum((1, 2)), (squares * ~inside).sum((1, 2))], axis=1)
        similar, how = _faces(images, after, places, boxes, context)
        return {
            "sample_ids": np.array(seen.ids, np.int64),
            "groups": np.array(seen.groups, np.int64),
            "outside": outside.astype(np.float64),
            "of": np.array([seen.groups[place] for place in places], np.int64),
            "sums": sums,
            "sides": np.array([box.side for box in boxes], np.float64),
            "labels": np.array([box.label for box in boxes], np.str_),
            "similar": similar,
            "how": np.array([how]),
            "shown": np.stack([images[: task.show], after[: task.show]], axis=1),
        }

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task = cell.task
        assert isinstance(task, Objects)
        sums, groups, labels = (joined(units, name) for name in ("sums", "of", "labels"))
        if not len(sums):
            raise InputError(
                f"no boxes in the first {task.pictures} images", f"of {task.boxes}", "--set objects.pictures=null"
            )
        metrics = _errors(sums, groups, {})
        bins = np.searchsorted(EDGES, joined(units, "sides"), side="right")
        for number, name in enumerate(SIZES):
            if (bins == number).any():
                metrics += _errors(sums[bins == number], groups[bins == number], {"size": name})
        for label in sorted(set(labels.tolist()) - {""}):
            metrics += _errors(sums[labels == label], groups[labels == label], {"label": label})
        outside = _root(joined(units, "outside"), joined(units, "groups"))
        metrics.append(outside.metric("outside-error", f"of all other pixels; {HOW}", "levels", "lower"))
        hows = [str(how) for how in joined(units, "how")]
        metrics.append(_similarity(joined(units, "similar"), groups, max(hows, key=lambda how: how != NO_FACE)))
        return Finished(tuple(metrics), gallery=_gallery(task, units))


NO_FACE = "no box is labelled face"
HOW = "interval by leaving out a photograph, or an image of yours, at a time"


@dataclass(frozen=True)
class _Seen:
    """Images (n, 3, H, W) with boxes, their numbers and groups; boxes, and of each the place of its image."""

    images: Images
    ids: list[int]
    groups: list[int]
    boxes: list[Box]
    places: list[int]


def _given(task: Objects, tokenizer: Tokenizer, ids: range, context: Context) -> _Seen:
    """Those of the images `ids` that have boxes."""
    if task.images is not None and task.boxes is not None:
        source = context.source(Data(task.images))
        found = read_boxes(Path(task.boxes), source.keys(range(len(source))), source.resolution)
        found = [(number, box) for number, box in found if number in ids]
        needed = sorted({number for number, _ in found})
        whole = load(source, ids, tokenizer.card, "objects")
        images = whole[[number - ids.start for number in needed]]
        return _Seen(images, needed, needed, [box for _, box in found], [needed.index(number) for number, _ in found])
    side = task.size or tokenizer.card.resolution
    if not tokenizer.card.takes(side, side):
        name = tokenizer.card.name
        raise Unsupported(f"{name} does not take images of {side} x {side}", "", "--set objects.size=null")
    if task.pictures is None or task.pictures > PACKAGED:
        what = f"there are {PACKAGED} windows of packaged photographs, not {task.pictures}"
        raise Unsupported(what, "", f"--set objects.pictures={PACKAGED}")
    seen = windows(side)[ids.start : ids.stop]
    images = np.stack([each.image for each in seen])
    boxes, groups = [each.box for each in seen], [each.photograph for each in seen]
    return _Seen(images, list(ids[: len(seen)]), groups, boxes, list(range(len(seen))))


def _faces(
    before: Images, after: Images, places: Sequence[int], boxes: Sequence[Box], context: Context
) -> tuple[NDArray[np.float64], str]:
    """(boxes,) likeness of those with a face, NaN of others, and how it was measured, or why it was not."""
    similar = np.full(len(boxes), np.nan)
    faces = [number for number, box in enumerate(boxes) if box.label == FACE]
    if not faces:
        return similar, NO_FACE
    file = context.extractors("parity").weights.find(WEIGHTS)
    if file is None:
        return similar, f"no weights of {WEIGHTS}: arbench weights fetch {WEIGHTS}, or --weights {WEIGHTS}=PATH"
    try:
        network = Faces(file.path)
    except PrerequisiteError as error:
        return similar, f"{error.what} ({error.hint})"
    for number in faces:
        box, place = boxes[number], places[number]
        parts = [image[place, :, box.top : box.bottom, box.left : box.right] for image in (before, after)]
        similar[number] = network.similarity(*parts)
    return similar, network.convention


def _totals(values: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """(groups, k) sums of (n, k) of each group."""
    _, place = np.unique(groups, return_inverse=True)
    found = np.zeros((int(place.max()) + 1, values.shape[1]))
    np.add.at(found, place, values)
    return found


def _root(sums: NDArray[np.float64], groups: NDArray[np.int64]) -> Estimate:
    """Root of all squared errors over all pixels, of (n, 2) pixels and sums."""
    found = of_totals(_totals(sums, groups), lambda total: float(np.sqrt(total[1] / total[0])) if total[0] else None)
    return replace(found, n=len(sums))


def _errors(sums: NDArray[np.float64], groups: NDArray[np.int64], at: dict[str, At]) -> list[Metric]:
    psnr = 10 * np.log10(255.0**2 / np.maximum(sums[:, 1] / sums[:, 0], LEAST / sums[:, 0]))
    rows = np.stack([psnr, np.ones(len(psnr))], axis=1)
    mean = replace(of_totals(_totals(rows, groups), _mean), n=len(psnr))
    return [
        _root(sums, groups).metric("box-error", f"of all pixels in boxes; {HOW}", "levels", "lower", at=at),
        mean.metric("box-psnr", f"of each box, then the mean; {HOW}", "dB", "higher", at=at),
    ]


def _mean(total: NDArray[np.float64]) -> float | None:
    """Of a sum and a count."""
    return float(total[0] / total[1]) if total[1] else None


def _similarity(values: NDArray[np.float64], groups: NDArray[np.int64], how: str) -> Metric:
    known = ~np.isnan(values)
    if not known.any():
        return missing(how, len(values)).metric("face-similarity", "of boxes labelled face", "", "higher")
    rows = np.stack([values[known], np.ones(int(known.sum()))], axis=1)
    mean = replace(of_totals(_totals(rows, groups[known]), _mean), n=int(known.sum()))
    return mean.metric("face-similarity", f"{how}; {HOW}", "", "higher")


def _gallery(task: Objects, units: Sequence[Stored]) -> Gallery | None:
    if task.show == 0:
        return None
    shown: Images = joined(units, "shown", task.show)  # (n, 2, 3, H, W)
    return Gallery(
        f"Objects of {task.images or 'packaged photographs'}",
        "rows",
        "The first images with boxes, not selected.",
        joined(units, "sample_ids", task.show),
        np.full((2, len(shown)), -1),
        ("original", ""),
        (True, False),
        np.ascontiguousarray(shown.swapaxes(0, 1)),
    )
