"""The work of `predict`: images are encoded, and when all are, a network is trained on their codes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...measure.threads import SAMPLING_THREADS, threads
from ...metrics.estimate import bounded, mean_with_interval, missing
from ...metrics.token_probe import AT_ONCE, as_digits, bits_of_tokens
from ...protocols import TokenSpec
from ...spec.cell import Cell
from ...spec.result import At, Metric
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored
from ..outputs import encode, join, levels_of, load, side_by_side, spec_at, tokens_of
from . import LEAST, Predict

PARTS = 8
"""Of a sequence, against whose place bits are shown; a pyramid has its levels."""

NAMES = (
    ("probe-share", "fraction", "bits of a code over log2(codes)"),
    ("probe-bits", "bits", "mean over the codes of an image"),
    ("probe-image-bits", "bits", "sum over its codes"),
    ("probe-pixel-bits", "bits", "over its pixels"),
)
"""With unit and meaning."""


class PredictWork:
    """A unit is a range of image indices; what is stored are their codes."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, Predict)
        ids = range(unit.start, unit.stop)
        images = load(context.source(task.images), ids, tokenizer.card, "predict")
        parts = []
        for start in range(0, len(ids), task.batch):
            parts.append(encode(tokenizer, images[start : start + task.batch], context.device))
            context.progress(min(start + task.batch, len(ids)))
        return {"sample_ids": np.array(ids, np.int64), "tokens": tokens_of(join(parts), len(ids))}

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, Predict)
        size = context.source(task.images).resolution
        spec, ids = spec_at(tokenizer, size), side_by_side([unit["tokens"] for unit in units])
        how = f"small causal transformer, {task.steps} steps on four fifths of the images, of the others"
        how += "; its residual is not counted" if spec.kind == "hybrid" else ""
        how += "; how many tokens an image has is taken as known" if spec.variable_length else ""
        reason = ""
        if spec.vocabulary is None or spec.kind == "continuous":
            reason = "continuous latents have no codes: their bits depend on how finely they are cut"
        elif as_digits(ids[:1], spec.vocabulary)[0].shape[1] > AT_ONCE:
            reason = f"{ids.shape[1]} tokens an image are too many for the network: {AT_ONCE} digits at most"
        elif len(ids) < LEAST:
            reason = f"{len(ids)} images are too few to train on: {LEAST} are needed"
        if reason or spec.vocabulary is None:
            return Finished(_null(reason, how))
        with threads(SAMPLING_THREADS):  # on whose number the last bits of a sum depend, and then all of training
            bits = bits_of_tokens(
                ids, spec.vocabulary, task.steps, cell.settings.seed, context.device, lambda step: context.progress(0)
            )
        whole = _metrics(bits, math.log2(spec.vocabulary), size, how)
        return Finished((*whole, *_by_place(spec, bits, how)))


def _null(reason: str, how: str) -> tuple[Metric, ...]:
    return tuple(
        missing(reason).metric(name, f"{what}; {how}", unit, None if name == "probe-bits" else "lower")
        for name, unit, what in NAMES
    )


def _metrics(bits: NDArray[np.float64], most: float, size: tuple[int, int], how: str) -> tuple[Metric, ...]:
    """Of the bits (n, T) of each held-out image's tokens, NaN where it has none; `most`: log2 of the codes."""
    image, tokens = np.nansum(bits, axis=1), (~np.isnan(bits)).sum(1)
    values = (image / (tokens * most), image / tokens, image, image / (size[0] * size[1]))
    return tuple(
        bounded(mean_with_interval(each)).metric(
            name, f"{what}; {how}", unit, None if name == "probe-bits" else "lower"
        )
        for (name, unit, what), each in zip(NAMES, values, strict=True)
    )


def _by_place(spec: TokenSpec, bits: NDArray[np.float64], how: str) -> list[Metric]:
    """Bits of a code (n, T) by level, or by eighth of the longest sequence, of the images that have codes there."""
    if len(spec.levels) > 1:
        name, parts = "level", levels_of(spec, bits)
    else:
        name, parts = "eighth", np.array_split(bits, min(PARTS, bits.shape[1]), axis=1)
    found = []
    for number, part in enumerate(parts):
        at: dict[str, At] = {name: number if name == "level" else number + 1}
        there = ~np.isnan(part)
        means = np.nansum(part, axis=1)[there.any(1)] / there.sum(1)[there.any(1)]
        found.append(bounded(mean_with_interval(means)).metric("probe-bits", f"of this {name}; {how}", "bits", at=at))
    return found
