"""Which samples of a generator came out worst: those that lie furthest from every image of the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...data.digest import one_size, opened
from ...data.reading import is_statistics
from ...features.feature_folder import is_features
from ...gallery import Gallery
from ...metrics.sets.nearest import nearest
from ...spec.task import Data
from ..base import Context, Stored
from ..compared import Sides
from . import Generate

TITLE = "Worst samples"
WORST = 16
"""Pictures of them."""
MOST = 2048
"""Samples among which they are looked for: the distances of these to 50,000 images take seconds."""
NO_FEATURES = "no number ranks single samples: the reference has no features of images here, only their statistics"


def worst(task: Generate, units: Sequence[Stored], both: Sides, context: Context) -> Gallery | None:
    """The kept samples whose features are furthest from their nearest neighbour in the reference, furthest first, with
    these neighbours below them; without a picture, and with the reason, where no number ranks them. None where all
    are shown, or none is to be.
    """
    if task.show == 0:
        return None
    images, ids, labels, places = _kept(units)
    if len(ids) <= WORST:
        return None
    if both.reference is None:
        return _none("no number ranks single samples: the task has no reference to be far from")
    known = both.reference
    output = next((each.output for each in both.wanted if _ranks(each.output, both) and known.rows(each.output)), None)
    if output is None:
        return _none(NO_FEATURES)
    real = known.rows(output)
    assert real is not None
    recipe = output.partition(":")[0]
    distances, neighbours = nearest(both.samples[recipe].rows(output)[places], real)
    order = np.argsort(-distances, kind="stable")[:WORST]
    near = neighbours[order]
    lead = (
        f"Of {len(ids):,} samples that are kept those whose features ({recipe}) lie furthest from their nearest"
        f" neighbour in {known.name}, furthest first: distance {distances[order[0]]:.3g} to"
        f" {distances[order[-1]]:.3g}, and {np.median(distances):.3g} in the median."
    )
    rows, told, names = [images[order]], [labels[order]], [""]
    beside = _images(task, near, context, images.shape[1:]) if recipe in known.sets else None
    if beside is not None:
        of_real = known.sets[recipe].labels
        rows.append(beside)
        told.append(np.full(len(near), -1) if of_real is None else of_real[near])
        names.append("nearest real image")
        lead += " Below each is that neighbour; an arrow leads to its class where that is another one."
    return Gallery(TITLE, "rows", lead, ids[order], np.stack(told), tuple(names), (False,) * len(rows), np.stack(rows))


def _ranks(output: str, both: Sides) -> bool:
    return bool(output) and output.partition(":")[0] in both.samples


def _none(reason: str) -> Gallery:
    """A gallery without a picture; its lead says why."""
    empty = np.zeros((1, 0, 3, 1, 1), np.uint8)
    return Gallery(TITLE, "rows", reason, np.zeros(0, np.int64), np.zeros((1, 0), np.int64), ("",), (False,), empty)


Kept = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _kept(units: Sequence[Stored]) -> Kept:
    """Images, ids, labels and places among all samples, of the first that are kept."""
    found: list[Kept] = []
    start = count = 0
    for unit in units:
        own = len(unit["sample_ids"])
        if "images" in unit and count < MOST:
            places = np.arange(start, start + own, dtype=np.int64)
            found.append((unit["images"], unit["sample_ids"], unit["labels"], places))
            count += own
        start += own
    if not found:
        return np.zeros((0, 3, 1, 1), np.uint8), *(np.zeros(0, np.int64) for _ in range(3))  # type: ignore[return-value]
    images, ids, labels, places = (np.concatenate(parts)[:MOST] for parts in zip(*found, strict=True))
    return images, ids, labels, places


def _images(
    task: Generate, rows: NDArray[np.int64], context: Context, shape: tuple[int, ...]
) -> NDArray[np.uint8] | None:
    """These images of the reference, None where it is not of images of the samples' size."""
    if task.reference is None or is_statistics(task.reference) or is_features(task.reference):
        return None
    data = Data(task.reference, task.crop, task.size, mixed=True)
    if one_size(opened(data)) != shape[1:]:
        return None
    found: NDArray[np.uint8] = context.source(data).load(rows.tolist())
    return found
