"""The work of `perturb`: ids are exchanged, or latents moved towards their neighbours, before they are decoded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...gallery import Gallery
from ...metrics.classifier import class_agreement
from ...metrics.estimate import missing
from ...protocols import Codes, Tokenizer, TokenSpec
from ...seeds import Philox, noise_for
from ...spec.cell import Cell
from ...spec.result import Metric
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..compared import described, evaluated, keeps_images
from ..outputs import decode, encode, join, load, unclassifiable
from . import Perturb

ROWS = 256
"""Latents compared with all others at once."""


class PerturbWork:
    """A unit is a range of image indices. Latents of all images are kept while a cell is worked on."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, Perturb)
        source, ids = context.source(task.images), range(unit.start, unit.stop)
        if tokenizer.spec.variable_length:
            return {"sample_ids": np.array(ids, np.int64)}
        originals = load(source, ids, tokenizer.card, "perturb")
        if tokenizer.spec.kind == "continuous":
            middle: Tensor = context.kept(cell.result_id, lambda: _between(task, tokenizer, context))
            changed = Codes(latents=middle[unit.start : unit.stop])
        else:
            codes = _encoded(tokenizer, originals, task.batch, context)
            changed = perturbed(codes, tokenizer.spec, task.share, noise_for(cell.settings.seed, ids))
        images: NDArray[np.uint8] = decode(tokenizer, changed, ids, originals.shape[2:]).numpy()
        context.progress(len(ids))
        labels = np.full(len(ids), -1, dtype=np.int64) if source.labels is None else source.labels[ids.start : ids.stop]
        arrays = described(
            images, ids, labels, source.keys(ids), task.question(), task.mode, context, originals=originals
        )
        if keeps_images(cell, unit, images[0].nbytes, task.show):
            arrays["images"] = images
        if not unclassifiable(tokenizer.card, task.data):
            arrays["predicted"] = context.shared("classifier").predict(images)
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, Perturb)
        if tokenizer.spec.variable_length:
            return Finished(_nothing(task, len(joined(units, "sample_ids"))))
        found = evaluated(cell.adapter, units, task.question(), task.data, context, mode=task.mode, limit=task.n)
        what = _what(task, tokenizer.spec)
        metrics = (*found.metrics, _agreement(task, tokenizer, units, context))
        return Finished(
            tuple(metric.model_copy(update={"at": {**metric.at, "codes": what}}) for metric in metrics),
            gallery=_gallery(task, units, context, what),
            samples=found.samples,
            reference=found.reference,
            remarks=found.remarks,
            weights=found.weights,
        )


def _between(task: Perturb, tokenizer: Tokenizer, context: Context) -> Tensor:
    """Of every image the middle of its latents and the nearest other ones."""
    source, count, parts = context.source(task.images), task.n or 0, []
    for start in range(0, count, task.batch):
        ids = range(start, min(start + task.batch, count))
        latents = encode(tokenizer, load(source, ids, tokenizer.card, "perturb"), context.device).latents
        assert latents is not None
        parts.append(latents)
        context.progress(0)
    return halfway(torch.cat(parts))


def _nothing(task: Perturb, n: int) -> tuple[Metric, ...]:
    """All numbers null, of codes that mean something only together."""
    nothing = missing("codes in rows of different lengths mean something together: exchanged ones make no image", n)
    at = {"codes": f"{100 * task.share:g} % exchanged"}
    return (
        *(
            nothing.metric(item.metric, item.what, item.unit, item.direction, convention=item.convention, at=at)
            for item in task.question().definitions()
        ),
        nothing.metric("class-agreement", "of decoded images", "fraction", "higher", at=at),
    )


def _what(task: Perturb, spec: TokenSpec) -> str:
    """The change in words, which is part of the key of the numbers."""
    return "half way to the nearest" if spec.kind == "continuous" else f"{100 * task.share:g} % exchanged"


def _encoded(tokenizer: Tokenizer, originals: NDArray[np.uint8], batch: int, context: Context) -> Codes:
    starts = range(0, len(originals), batch)
    return join([encode(tokenizer, originals[start : start + batch], context.device) for start in starts])


def perturbed(codes: Codes, spec: TokenSpec, share: float, noise: Philox) -> Codes:
    """Codes of which each id is, with a probability of `share`, another one drawn evenly; a hybrid's residual stays."""
    assert spec.vocabulary is not None
    levels = []
    for number, ids in enumerate(codes.ids):
        count = ids.shape[1]
        hit = noise.uniform(f"perturb/hit/{number}", count) < share
        step = 1 + (noise.uniform(f"perturb/code/{number}", count) * (spec.vocabulary - 1)).long()
        levels.append(torch.where(hit.to(ids.device), (ids + step.to(ids.device)) % spec.vocabulary, ids))
    return Codes(ids=tuple(levels), latents=codes.latents if spec.kind == "hybrid" else None, lengths=codes.lengths)


def halfway(latents: Tensor) -> Tensor:
    """The middle of each of latents (n, ...) and the nearest other one, itself where there is no other."""
    rows = latents.flatten(1).float()
    if len(rows) < 2:
        return latents
    nearest = []
    for start in range(0, len(rows), ROWS):
        apart = torch.cdist(rows[start : start + ROWS], rows)
        here = torch.arange(len(apart))
        apart[here, here + start] = torch.inf
        nearest.append(apart.argmin(1))
    return (latents + latents[torch.cat(nearest)]) / 2


def _agreement(task: Perturb, tokenizer: Tokenizer, units: Sequence[Stored], context: Context) -> Metric:
    reason, labels = unclassifiable(tokenizer.card, task.data), joined(units, "labels")
    estimate = missing(reason or "the images have no labels", len(labels))
    how = "decoded images classified as the label of their original"
    if not reason and (labels >= 0).all():
        estimate = class_agreement(joined(units, "predicted"), labels)
        how = f"{how}; {context.shared('classifier').convention}"
    return estimate.metric("class-agreement", how, "fraction", "higher")


def _gallery(task: Perturb, units: Sequence[Stored], context: Context, what: str) -> Gallery | None:
    if task.show == 0:
        return None
    ids = joined(units, "sample_ids", task.show)
    before: NDArray[np.uint8] = context.source(task.images).load(ids.tolist())
    return Gallery(
        f"Perturbed codes of {task.data}",
        "rows",
        f"Codes {what}. The first images, not selected.",
        ids,
        np.full((2, len(ids)), -1),
        ("original", ""),
        (True, False),
        np.stack([before, joined(units, "images", task.show)]),
    )
