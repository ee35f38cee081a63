"""Generate: sample by class from per-sample seeds, decode, and compare with a reference set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..images import digests, grid, pack, png, to_uint8
from ..metrics.classifier import class_agreement
from ..metrics.estimate import Estimate, missing
from ..metrics.sets.frechet import frechet
from ..metrics.sets.kernel import kid
from ..metrics.sets.neighbours import precision_recall
from ..protocols import Card, Codes, Generated, Generator
from ..spec.cell import Cell, Unit
from ..spec.result import Metric
from ..spec.sampling import Sampling
from ..spec.suite import Generate
from .base import Arrays, Context, Finished, joined
from .outputs import (
    check_generated,
    check_images,
    decode,
    features_of,
    join,
    labels_for,
    request_for,
    sampling_of,
    tokens_of,
    unclassifiable,
)

COLUMNS = 10
"""Columns of the sample sheet: one per class where there are ten."""


class GenerateTask:
    """A unit is a range of sample ids; sample id i has class `i % classes`."""

    @torch.inference_mode()
    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task = cell.task
        assert isinstance(task, Generate)
        generator = context.generator(cell)
        card, ids = generator.card, range(unit.start, unit.stop)
        parts = list(_batches(generator, ids, task.batch, cell, context))
        if generator.tokenizer is None:
            codes = Codes()
            images = torch.cat([_direct(card, part, rows) for part, rows in parts])
        else:
            codes = join([part.codes for part, _ in parts if part.codes is not None])
            images = decode(generator.tokenizer, codes, ids)
        pixels: NDArray[np.uint8] = images.numpy()  # (n, 3, H, W)
        arrays: Arrays = {
            "sample_ids": np.array(ids, dtype=np.int64),
            "labels": labels_for(card, ids),
            "tokens": tokens_of(codes, len(ids)),
            "images": pixels,
            "digests": np.array(digests(pixels)),
            "features": features_of(context, pixels),
        }
        if not unclassifiable(card, task.reference):
            arrays["predicted"] = context.shared("classifier").predict(pixels)
        return arrays

    def finish(self, cell: Cell, units: Sequence[Arrays], context: Context) -> Finished:
        task = cell.task
        assert isinstance(task, Generate)
        extractor = context.shared("features")
        reference = context.reference(task.reference)
        features = joined(units, "features")
        both = precision_recall(features, reference)
        name = extractor.name
        against = f"{extractor.convention}; {task.reference}, n={len(reference)}"
        metrics = (
            frechet(features, reference).metric(f"frechet-{name}", f"{against}; not FID", direction="lower"),
            kid(features, reference).metric(f"kid-{name}", against, direction="lower"),
            both.precision.metric(f"precision-{name}", against, "fraction", "higher"),
            both.recall.metric(f"recall-{name}", against, "fraction", "higher"),
            _agreement(cell, units, context),
        )
        return Finished(metrics, artifacts=_artifacts(units, task.show))


def _batches(
    generator: Generator, ids: range, size: int, cell: Cell, context: Context
) -> Sequence[tuple[Generated, range]]:
    """The unit's samples, `size` at a time."""
    sampling, prepared, parts = sampling_of(cell, generator.card), 0, []
    for start in range(ids.start, ids.stop, size):
        rows = range(start, min(start + size, ids.stop))
        if len(rows) != prepared:
            generator.prepare(len(rows), sampling)
            prepared = len(rows)
        parts.append((_sample(generator, rows, sampling, cell.settings.seed, context.device), rows))
        context.progress(rows.stop - ids.start)
    return parts


def _sample(generator: Generator, rows: range, sampling: Sampling, seed: int, device: str) -> Generated:
    generated = generator.sample(request_for(generator.card, rows, seed, device), sampling)
    return check_generated(generator, generated, len(rows))


def _direct(card: Card, generated: Generated, rows: range) -> torch.Tensor:
    """uint8 images of a model without a tokenizer."""
    assert generated.images is not None  # check_generated has seen to it
    return to_uint8(check_images(generated.images, rows, card.resolution, card.name)).cpu()


def _agreement(cell: Cell, units: Sequence[Arrays], context: Context) -> Metric:
    assert isinstance(cell.task, Generate)
    reason = unclassifiable(context.generator(cell).card, cell.task.reference)
    estimate: Estimate = missing(reason, len(joined(units, "sample_ids")))
    convention = "share classified as the class asked for"
    if not reason:
        estimate = class_agreement(joined(units, "predicted"), joined(units, "labels"))
        convention = f"{convention}; {context.shared('classifier').convention}"
    return estimate.metric("class-agreement", convention, "fraction", "higher")


def _artifacts(units: Sequence[Arrays], show: int) -> dict[str, bytes]:
    """The first samples as arrays and as one sheet."""
    if show == 0:
        return {}
    images = joined(units, "images")[:show]
    arrays = {
        "sample_ids": joined(units, "sample_ids")[:show],
        "labels": joined(units, "labels")[:show],
        "images": images,
    }
    return {"samples.npz": pack(arrays), "samples.png": png(grid(images, COLUMNS))}
