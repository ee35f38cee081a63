"""The work of `rate`: images through the tokenizer and through files of every quality; rates and likeness of each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...data.codecs import CODECS, through
from ...data.indexed import ImageSource
from ...metrics.codes import NO_TOKEN
from ...metrics.estimate import Estimate, mean_with_interval, missing
from ...metrics.pairs.backbones import NEEDS
from ...metrics.pairs.paired import find
from ...protocols import TokenSpec
from ...spec.cell import Cell
from ...spec.result import At, Metric
from ...spec.task import Data
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..outputs import decode, encode, join, load, spec_at, tokens_of
from . import QUALITIES, Rate

NO_RATE = "continuous latents have no rate: how finely they are rounded is not a part of the tokenizer"


class RateWork:
    """A unit is a range of image indices; what is stored is tokens, bytes and likenesses of each image."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, Rate)
        ids = range(unit.start, unit.stop)
        images = load(_source(task, context), ids, tokenizer.card, "rate")
        starts = range(0, len(ids), task.batch)
        codes = join([encode(tokenizer, images[at : at + task.batch], context.device) for at in starts])
        pairs = context.pair_metrics(tuple(QUALITIES.values()))
        own = pairs(decode(tokenizer, codes, ids, images.shape[2:]).numpy(), images)
        arrays: Arrays = {
            "sample_ids": np.array(ids, np.int64),
            "tokens": (tokens_of(codes, len(ids)) != NO_TOKEN).sum(1),
            **{name: own[variant] for name, variant in QUALITIES.items() if variant in own},
        }
        for codec in CODECS:
            sizes, found = [], []
            for quality in task.qualities:
                count, decoded = through(images, codec, quality)
                sizes.append(count)
                found.append(pairs(decoded, images))
                context.progress(0)
            arrays[f"bytes {codec}"] = np.stack(sizes, axis=1)
            for name, variant in QUALITIES.items():
                if variant in own:
                    arrays[f"{name} {codec}"] = np.stack([each[variant] for each in found], axis=1)
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task = cell.task
        assert isinstance(task, Rate)
        size = _source(task, context).resolution
        pixels = size[0] * size[1]
        spec, psnr = spec_at(context.tokenizer(cell), size), joined(units, "psnr")
        bits = _bits(spec, joined(units, "tokens"), pixels)
        rate = missing(NO_RATE, len(psnr)) if bits is None else mean_with_interval(bits)
        metrics = [rate.metric("bits-per-pixel", "tokens x log2(codes) over pixels, mean over images", "bits", "lower")]
        for name, variant in QUALITIES.items():
            how = f"{variant}: {find(variant).convention}; to the original, mean over images"
            metrics.append(_likeness(_values(name, "", units, size), f"rate-{name}", how, {}))
        for codec in CODECS:
            files = 8 * joined(units, f"bytes {codec}") / pixels
            over = missing(NO_RATE, len(psnr))
            if bits is not None:
                over = _over(codec, files, joined(units, f"psnr {codec}"), bits, psnr)
            how = (
                f"PSNR over that of a {codec} file of the image's own bits, between qualities along log2 of bits; mean"
            )
            metrics.append(over.metric("over-codec", how, "dB", "higher", at={"codec": codec}))
            metrics += _curve(task, codec, files, {name: _values(name, codec, units, size) for name in QUALITIES})
        return Finished(tuple(metrics))


def _source(task: Rate, context: Context) -> ImageSource:
    return context.source(Data(task.data, task.crop, task.size))


def _bits(spec: TokenSpec, tokens: NDArray[np.int64], pixels: int) -> NDArray[np.float64] | None:
    """(n,) bits per pixel, every code being as likely; None of tokens that are numbers."""
    if spec.kind != "discrete" or spec.vocabulary is None:
        return None
    return np.asarray(tokens * (math.log2(spec.vocabulary) / pixels), np.float64)


def _values(name: str, codec: str, units: Sequence[Stored], size: tuple[int, int]) -> NDArray[np.float64] | Estimate:
    """Of each image, (n,) of the tokenizer and (n, qualities) of a codec, or no value and why."""
    known, least = find(QUALITIES[name]), min(size)
    if f"{name} {codec}".strip() not in units[0]:
        return missing(f"no weights of {NEEDS[known.name]}", len(joined(units, "sample_ids")))
    if least < known.smallest:
        why = f"{known.name} needs images of {known.smallest} pixels or more, these have {least}"
        return missing(why, len(joined(units, "sample_ids")))
    found: NDArray[np.float64] = joined(units, f"{name} {codec}".strip())
    return found


def _likeness(values: NDArray[np.float64] | Estimate, name: str, how: str, at: dict[str, At]) -> Metric:
    """`name` is a metric's, behind whose dash stands what is measured: the unit and what is better are its own."""
    kind = find(QUALITIES[name.partition("-")[2]])
    estimate = values if isinstance(values, Estimate) else mean_with_interval(values)
    return estimate.metric(name, how, kind.unit, kind.direction, at=at)


def _curve(
    task: Rate, codec: str, files: NDArray[np.float64], found: dict[str, NDArray[np.float64] | Estimate]
) -> list[Metric]:
    """The curve of a codec: bits per pixel (n, qualities), and of each likeness the same or no value."""
    metrics = []
    for place, quality in enumerate(task.qualities):
        at: dict[str, At] = {"codec": codec, "quality": quality}
        how = f"{codec} of quality {quality} as Pillow writes it, mean over images"
        metrics.append(mean_with_interval(files[:, place]).metric("codec-bits", how, "bits", "lower", at=at))
        for name, values in found.items():
            if not isinstance(values, Estimate):
                metrics.append(_likeness(values[:, place], f"codec-{name}", how, at))
    for name, values in found.items():
        if isinstance(values, Estimate):
            metrics.append(_likeness(values, f"codec-{name}", f"{codec} as Pillow writes it", {"codec": codec}))
    return metrics


def _over(
    codec: str,
    files: NDArray[np.float64],
    psnr: NDArray[np.float64],
    bits: NDArray[np.float64],
    ours: NDArray[np.float64],
) -> Estimate:
    least, most = files.min(1), files.max(1)
    outside = int(((bits < least) | (bits > most)).sum())
    if outside:
        what = f"{outside} of {len(bits)} images take {bits.mean():.3g} bits per pixel on average"
        return missing(f"{what}, and {codec} files {least.mean():.3g} to {most.mean():.3g}", len(bits))
    differences = []
    for size, good, rate, value in zip(files, psnr, bits, ours, strict=True):
        order = np.argsort(size, kind="stable")
        differences.append(value - np.interp(math.log2(rate), np.log2(size[order]), good[order]))
    return mean_with_interval(differences)
