"""The work of `generate`: samples and their features unit by unit, numbers of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...data.prompts import read_prompts, texts
from ...features.unit_features import PROMPTS
from ...gallery import Gallery
from ...metrics.classifier import class_agreement
from ...metrics.estimate import Estimate, missing
from ...protocols import Card, Request
from ...spec.cell import Cell
from ...spec.result import Metric
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..compared import described, keeps_images, sides, stored_prompts
from ..outputs import labels_for, prompted_request, request_for, sampling_of, tokens_of, unclassifiable
from ..sampled import sampled
from . import Generate
from .floor import floor
from .worst import worst

LEAD = (
    "The first sample ids that all models share, not selected: the same id has the same class and the same seed in"
    " every model."
)
OF_PROMPTS = (
    "The first prompts, not selected: the same id has the same prompt and the same seed in every model. Under each"
    " picture its prompt."
)


class GenerateWork:
    """A unit is a range of sample ids; sample id i has class `i % classes`, or line i of the prompts."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task = cell.task
        assert isinstance(task, Generate)
        generator = context.generator(cell)
        card, ids = generator.card, range(unit.start, unit.stop)
        prompts = _prompts(card, task)

        def request(rows: range) -> Request:
            if prompts:
                return prompted_request(card, rows, prompts, cell.settings.seed, context.device)
            return request_for(card, rows, cell.settings.seed, context.device)

        pixels, codes = sampled(
            generator,
            ids,
            task.batch,
            sampling_of(cell, card),
            request,
            context.progress,
        )
        labels: NDArray[np.int64] = np.full(len(ids), -1, dtype=np.int64) if prompts else labels_for(card, ids)
        keys = [f"sample-{sample_id:06d}" for sample_id in ids]
        arrays = described(pixels, ids, labels, keys, task.question(), task.mode, context)
        arrays["tokens"] = tokens_of(codes, len(ids))
        if prompts:
            arrays[PROMPTS] = np.array(texts(prompts[unit.start : unit.stop]))
        if keeps_images(cell, unit, pixels[0].nbytes, task.show):
            arrays["images"] = pixels
        if not unclassifiable(card, task.reference):
            arrays["predicted"] = context.shared("classifier").predict(pixels)
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task = cell.task
        assert isinstance(task, Generate)
        both = sides(cell.adapter, units, task.question(), task.reference, context, mode=task.mode, limit=None)
        found = both.evaluated(context.device)
        beneath, remarks = floor(cell, both, context) if task.floor else ([], [])
        known = {remark.code for remark in found.remarks}
        return Finished(
            (*found.metrics, *beneath, _agreement(cell, units, context)),
            gallery=_gallery(units, task.show),
            worst=worst(task, units, both, context),
            samples=found.samples,
            reference=found.reference,
            remarks=(*found.remarks, *(remark for remark in remarks if remark.code not in known)),
            weights=found.weights,
        )


def _prompts(card: Card, task: Generate) -> tuple[str, ...]:
    """The lines of the prompts of a text-to-image model; without any, its labels are asked for, and it refuses."""
    return read_prompts(Path(task.prompts)) if card.condition == "text" and task.prompts is not None else ()


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
    images, prompts = joined(units, "images", show), stored_prompts(units)[:show]
    return Gallery(
        "Samples of prompts" if prompts else "Samples",
        "sheet",
        OF_PROMPTS if prompts else LEAD,
        joined(units, "sample_ids", show),
        joined(units, "labels", show)[None],
        ("",),
        (False,),
        images[None],
        prompts,
    )
