"""The work of `rate`: images through the tokenizer and through files of every quality; rates and PSNR of each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...data.codecs import CODECS, through
from ...data.indexed import ImageSource
from ...metrics.codes import NO_TOKEN
from ...metrics.estimate import Estimate, mean_with_interval, missing
from ...protocols import TokenSpec
from ...spec.cell import Cell
from ...spec.result import At, Metric
from ...spec.task import Data
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..outputs import decode, encode, join, load, spec_at, tokens_of
from . import Rate

NO_RATE = "continuous latents have no rate: how finely they are rounded is not a part of the tokenizer"


class RateWork:
    """A unit is a range of image indices; what is stored is tokens, bytes and PSNR of each image."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, Rate)
        ids = range(unit.start, unit.stop)
        images = load(_source(task, context), ids, tokenizer.card, "rate")
        starts = range(0, len(ids), task.batch)
        codes = join([encode(tokenizer, images[at : at + task.batch], context.device) for at in starts])
        psnr = context.pair_metrics(("psnr",))
        arrays: Arrays = {
            "sample_ids": np.array(ids, np.int64),
            "tokens": (tokens_of(codes, len(ids)) != NO_TOKEN).sum(1),
            "psnr": psnr(decode(tokenizer, codes, ids, images.shape[2:]).numpy(), images)["psnr"],
        }
        for codec in CODECS:
            files = [through(images, codec, quality) for quality in task.qualities]
            arrays[f"bytes {codec}"] = np.stack([sizes for sizes, _ in files], axis=1)
            arrays[f"psnr {codec}"] = np.stack([psnr(decoded, images)["psnr"] for _, decoded in files], axis=1)
            context.progress(0)
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task = cell.task
        assert isinstance(task, Rate)
        height, width = _source(task, context).resolution
        spec, psnr = spec_at(context.tokenizer(cell), (height, width)), joined(units, "psnr")
        bits = _bits(spec, joined(units, "tokens"), height * width)
        rate = missing(NO_RATE, len(psnr)) if bits is None else mean_with_interval(bits)
        metrics = [
            rate.metric("bits-per-pixel", "tokens x log2(codes) over pixels, mean over images", "bits", "lower"),
            mean_with_interval(psnr).metric("rate-psnr", "to the original, mean over images", "dB", "higher"),
        ]
        for codec in CODECS:
            files = 8 * joined(units, f"bytes {codec}") / (height * width)
            metrics += _codec(task, codec, files, joined(units, f"psnr {codec}"), bits, psnr)
        return Finished(tuple(metrics))


def _source(task: Rate, context: Context) -> ImageSource:
    return context.source(Data(task.data, task.crop, task.size))


def _bits(spec: TokenSpec, tokens: NDArray[np.int64], pixels: int) -> NDArray[np.float64] | None:
    """(n,) bits per pixel, every code being as likely; None of tokens that are numbers."""
    if spec.kind != "discrete" or spec.vocabulary is None:
        return None
    return np.asarray(tokens * (math.log2(spec.vocabulary) / pixels), np.float64)


def _codec(
    task: Rate,
    codec: str,
    files: NDArray[np.float64],
    psnr: NDArray[np.float64],
    bits: NDArray[np.float64] | None,
    ours: NDArray[np.float64],
) -> list[Metric]:
    """The curve of a codec, bits per pixel and PSNR (n, qualities), and where the tokenizer lies beside it."""
    found = []
    for place, quality in enumerate(task.qualities):
        at: dict[str, At] = {"codec": codec, "quality": quality}
        size, good = mean_with_interval(files[:, place]), mean_with_interval(psnr[:, place])
        how = f"{codec} of quality {quality} as Pillow writes it, mean over images"
        found.append(size.metric("codec-bits", how, "bits", "lower", at=at))
        found.append(good.metric("codec-psnr", how, "dB", "higher", at=at))
    how = f"PSNR over that of a {codec} file of the image's own bits, between qualities along log2 of bits; mean"
    over = missing(NO_RATE, len(ours)) if bits is None else _over(codec, files, psnr, bits, ours)
    return [over.metric("over-codec", how, "dB", "higher", at={"codec": codec}), *found]


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
