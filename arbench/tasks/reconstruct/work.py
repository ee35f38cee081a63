"""The work of `reconstruct`: images through the tokenizer, metrics of pairs, of sets and of codes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...gallery import Gallery
from ...metrics.classifier import class_agreement
from ...metrics.codes import NO_TOKEN, CodeUse, bits_per_image, code_use, code_use_by_level
from ...metrics.estimate import Estimate, mean_with_interval, missing
from ...protocols import Card, Codes, Tokenizer
from ...spec.cell import Cell
from ...spec.result import At, Metric
from ...spec.task import Data
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..compared import described, evaluated, keeps_images
from ..outputs import decode, encode, join, levels_of, load, side_by_side, spec_at, tokens_of, unclassifiable
from . import Reconstruct, worst
from .worst import AMPLIFIED, differences


class ReconstructWork:
    """A unit is a range of image indices."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task = cell.task
        assert isinstance(task, Reconstruct)
        tokenizer, source = context.tokenizer(cell), context.source(_data(task))
        card, ids = tokenizer.card, range(unit.start, unit.stop)
        originals = load(source, ids, card, "reconstruct")
        codes = _encode(tokenizer, originals, task.batch, context)
        images: NDArray[np.uint8] = decode(tokenizer, codes, ids, originals.shape[2:]).numpy()  # (n, 3, H, W)
        labels = np.full(len(ids), -1, dtype=np.int64) if source.labels is None else source.labels[ids.start : ids.stop]
        arrays = described(
            images, ids, labels, source.keys(ids), task.question(), task.mode, context, originals=originals
        )
        arrays["tokens"] = tokens_of(codes, len(ids))
        if keeps_images(cell, unit, images[0].nbytes, task.show):
            arrays["images"] = images
        if not unclassifiable(card, task.data):
            arrays["predicted"] = context.shared("classifier").predict(images)
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, Reconstruct)
        found = evaluated(cell.adapter, units, task.question(), task.data, context, mode=task.mode, limit=task.n)
        metrics = (
            *found.metrics,
            *_code_metrics(tokenizer, context.source(_data(task)).resolution, units),
            _agreement(task, tokenizer.card, units, context),
        )

        def load_originals(ids: NDArray[np.int64]) -> NDArray[np.uint8]:
            found: NDArray[np.uint8] = context.source(_data(task)).load(ids.tolist())
            return found

        return Finished(
            metrics,
            gallery=_gallery(task, units, context),
            worst=worst.by_psnr(task, units, load_originals),
            worst_lpips=worst.by_lpips(task, units, load_originals),
            samples=found.samples,
            reference=found.reference,
            remarks=found.remarks,
            weights=found.weights,
        )


def _data(task: Reconstruct) -> Data:
    return Data(task.data, task.crop, task.size)


def _encode(tokenizer: Tokenizer, originals: NDArray[np.uint8], batch: int, context: Context) -> Codes:
    """The codes of a unit's images, encoded `batch` at a time."""
    parts = []
    for start in range(0, len(originals), batch):
        parts.append(encode(tokenizer, originals[start : start + batch], context.device))
        context.progress(min(start + batch, len(originals)))
    return join(parts)


def _code_metrics(tokenizer: Tokenizer, size: tuple[int, int], units: Sequence[Stored]) -> list[Metric]:
    """Use of the codebook, all levels in one histogram and each level of a pyramid by itself, and bits per image."""
    spec, ids = spec_at(tokenizer, size), side_by_side([unit["tokens"] for unit in units])
    if spec.vocabulary is None or spec.kind == "continuous":
        nothing = missing("continuous latents have no codebook", len(ids))
        use = CodeUse(None, len(ids), 0, nothing, nothing, nothing, 0)
        dead = entropy = uniform = nothing
        levels = []
    else:
        use = code_use(ids, spec.vocabulary)
        dead = Estimate(float(use.dead), n=use.tokens, flags=use.usage.flags)
        entropy = bits_per_image(levels_of(spec, ids), spec.vocabulary)
        uniform = Estimate(spec.bits, n=len(ids))
        if spec.variable_length:
            uniform = mean_with_interval((ids != NO_TOKEN).sum(1) * math.log2(spec.vocabulary))
        levels = code_use_by_level(levels_of(spec, ids), spec.vocabulary) if len(spec.levels) > 1 else []
    return [
        *_use_metrics(use, {}, "all levels and codebooks in one histogram"),
        dead.metric("dead-codes", "codes never seen", "codes", "lower"),
        uniform.metric("bits-per-image", "tokens x log2(codes)", "bits", "lower"),
        entropy.metric("bits-per-image-entropy", "tokens coded with the histogram of their level", "bits", "lower"),
        *(
            metric
            for level, shape in zip(levels, spec.levels, strict=False)
            for metric in _use_metrics(
                level, {"level": level.level or 0}, f"level of {' x '.join(map(str, shape))} tokens"
            )
        ),
    ]


def _use_metrics(use: CodeUse, at: dict[str, At], of: str) -> tuple[Metric, ...]:
    extras = {} if use.entropy_inside is None else {"1d-tokenizer": use.entropy_inside}
    how = f"-sum p log2 p of the codes seen, {of}; as 1d-tokenizer counts it, p + 1e-8 inside the logarithm, in extras"
    return (
        use.usage.metric("codebook-used", f"share of codes seen at least once, {of}", "fraction", "higher", at=at),
        use.entropy.metric("codebook-entropy", how, "bits", "higher", at=at, extras=extras),
        use.perplexity.metric("codebook-perplexity", f"2^entropy, {of}", "codes", "higher", at=at),
    )


def _agreement(task: Reconstruct, card: Card, units: Sequence[Stored], context: Context) -> Metric:
    """How many reconstructions are still classified as what the original is."""
    reason, labels = unclassifiable(card, task.data), joined(units, "labels")
    estimate = missing(reason or "the images have no labels", len(labels))
    how = "reconstructions classified as the label of their original"
    if not reason and (labels >= 0).all():
        estimate = class_agreement(joined(units, "predicted"), labels)
        how = f"{how}; {context.shared('classifier').convention}"
    return estimate.metric("class-agreement", how, "fraction", "higher")


def _gallery(task: Reconstruct, units: Sequence[Stored], context: Context) -> Gallery | None:
    """The first originals with their reconstructions, and how they differ."""
    if task.show == 0:
        return None
    ids = joined(units, "sample_ids", task.show)
    before: NDArray[np.uint8] = context.source(_data(task)).load(ids.tolist())
    after: NDArray[np.uint8] = joined(units, "images", task.show)
    return Gallery(
        f"Reconstructions of {task.data}",
        "rows",
        "The first images, not selected.",
        ids,
        np.full((3, len(ids)), -1),
        ("original", "", f"|difference| × {AMPLIFIED}"),
        (True, False, False),
        np.stack([before, after, differences(before, after)]),
    )
