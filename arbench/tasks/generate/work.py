"""The work of `generate`: samples and their features unit by unit, numbers of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from ...gallery import Gallery
from ...metrics.classifier import class_agreement
from ...metrics.estimate import Estimate, missing
from ...spec.cell import Cell
from ...spec.result import Metric
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..compared import described, evaluated, keeps_images
from ..outputs import (
    labels_for,
    request_for,
    sampling_of,
    tokens_of,
    unclassifiable,
)
from ..sampled import sampled
from . import Generate

LEAD = (
    "The first sample ids that all models share, not selected: the same id has the same class and the same seed in"
    " every model."
)


class GenerateWork:
    """A unit is a range of sample ids; sample id i has class `i % classes`."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task = cell.task
        assert isinstance(task, Generate)
        generator = context.generator(cell)
        card, ids = generator.card, range(unit.start, unit.stop)
        pixels, codes = sampled(
            generator,
            ids,
            task.batch,
            sampling_of(cell, card),
            lambda rows: request_for(card, rows, cell.settings.seed, context.device),
            context.progress,
        )
        keys = [f"sample-{sample_id:06d}" for sample_id in ids]
        arrays = described(pixels, ids, labels_for(card, ids), keys, task.question(), task.mode, context)
        arrays["tokens"] = tokens_of(codes, len(ids))
        if keeps_images(cell, unit, pixels[0].nbytes, task.show):
            arrays["images"] = pixels
        if not unclassifiable(card, task.reference):
            arrays["predicted"] = context.shared("classifier").predict(pixels)
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task = cell.task
        assert isinstance(task, Generate)
        found = evaluated(cell.adapter, units, task.question(), task.reference, context, mode=task.mode, limit=None)
        return Finished(
            (*found.metrics, _agreement(cell, units, context)),
            gallery=_gallery(units, task.show),
            samples=found.samples,
            reference=found.reference,
            remarks=found.remarks,
            weights=found.weights,
        )


def _agreement(cell: Cell, units: Sequence[Stored], context: Context) -> Metric:
    assert isinstance(cell.task, Generate)
    labels = joined(units, "labels")
    reason = unclassifiable(context.generator(cell).card, cell.task.reference)
    estimate: Estimate = missing(reason, len(labels))
    how = "share classified as the class asked for"
    if not reason:
        estimate = class_agreement(joined(units, "predicted"), labels)
        how = f"{how}; {context.shared('classifier').convention}"
    return estimate.metric("class-agreement", how, "fraction", "higher")


def _gallery(units: Sequence[Stored], show: int) -> Gallery | None:
    """The first samples."""
    if show == 0:
        return None
    images = joined(units, "images", show)
    return Gallery(
        "Samples",
        "sheet",
        LEAD,
        joined(units, "sample_ids", show),
        joined(units, "labels", show)[None],
        ("",),
        (False,),
        images[None],
    )
