"""The work of `codes`: images are encoded; ids are kept, of latents the sums that their covariance needs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...data.indexed import ImageSource
from ...metrics.code_length import adaptive_bits, saturation
from ...metrics.codes import NO_TOKEN
from ...metrics.estimate import Estimate, mean_with_interval, missing
from ...protocols import Codes, TokenSpec
from ...seeds import noise_for
from ...spec.cell import Cell
from ...spec.result import Metric
from ...spec.task import Data
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..outputs import decode, encode, join, levels_of, load, side_by_side, spec_at, tokens_of
from . import CodesOfImages

ORDERS = (0, 1)


class CodesWork:
    """A unit is a range of image indices."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, CodesOfImages)
        ids = range(unit.start, unit.stop)
        images = load(_source(task, context), ids, tokenizer.card, "codes")
        spec, size = spec_at(tokenizer, images.shape[2:]), images.shape[2:]
        parts = []
        for start in range(0, len(ids), task.batch):
            parts.append(encode(tokenizer, images[start : start + task.batch], context.device))
            context.progress(min(start + task.batch, len(ids)))
        codes = join(parts)
        arrays: Arrays = {"sample_ids": np.array(ids, np.int64), "tokens": tokens_of(codes, len(ids))}
        if spec.kind != "continuous" or codes.latents is None:
            return arrays
        latents = codes.latents.double().cpu()
        rows = _by_channel(latents.numpy(), spec)
        arrays |= {"sum": rows.sum(0)[None], "square": (rows.T @ rows)[None], "count": np.array([len(rows)])}
        # of this unit's own spread, so that units stay apart: it is a matter of a few per cent
        shape = (1, -1, *([1] * (latents.ndim - 2))) if latents.shape[1] == rows.shape[1] else (1, 1, -1)
        spread = torch.from_numpy(rows.std(0)).reshape(shape)
        drawn = noise_for(cell.settings.seed, ids).normal("codes/noise", tuple(latents.shape[1:])).double()
        noisy = (latents + task.noise * spread * drawn).to(codes.latents)
        psnr = context.pair_metrics(("psnr",))
        arrays["psnr"] = psnr(decode(tokenizer, codes, ids, size).numpy(), images)["psnr"]
        arrays["psnr_noisy"] = psnr(decode(tokenizer, Codes(latents=noisy), ids, size).numpy(), images)["psnr"]
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task = cell.task
        assert isinstance(task, CodesOfImages)
        spec = spec_at(context.tokenizer(cell), _source(task, context).resolution)
        if spec.kind == "continuous" or spec.vocabulary is None:
            return Finished((_carried(missing("continuous latents have no codebook")), *_latents(task, units)))
        ids = side_by_side([unit["tokens"] for unit in units])
        return Finished((*_ids(spec, spec.vocabulary, ids),))


def _source(task: CodesOfImages, context: Context) -> ImageSource:
    return context.source(Data(task.data, task.crop, task.size))


def _by_channel(latents: NDArray[np.float64], spec: TokenSpec) -> NDArray[np.float64]:
    """(positions of all images, channels) of latents (B, C, h, w), or (B, tokens, C)."""
    if spec.channels is not None and latents.shape[1] != spec.channels and latents.shape[-1] == spec.channels:
        return latents.reshape(-1, spec.channels)
    return np.moveaxis(latents, 1, -1).reshape(-1, latents.shape[1])


def _ids(spec: TokenSpec, vocabulary: int, ids: NDArray[np.int32]) -> list[Metric]:
    n, metrics = len(ids), []
    for images, seen in saturation(ids, vocabulary):
        estimate = Estimate(seen, n=images, flags=("no_interval",))
        how = "codes of all levels that the first images show"
        metrics.append(estimate.metric("codebook-seen", how, "fraction", "higher", at={"images": images}))
    levels = levels_of(spec, ids)
    found = [adaptive_bits(levels, vocabulary, order) / n for order in ORDERS]
    for order, bits in zip(ORDERS, found, strict=True):
        how = f"Krichevsky-Trofimov code over {n} images, counts for each level"
        how += ", and for each code that goes before" if order else ""
        estimate = Estimate(bits, n=n, flags=("no_interval",))
        metrics.append(estimate.metric("adaptive-bits", how, "bits", None, at={"order": order}))
    uniform = int((ids != NO_TOKEN).sum()) / n * math.log2(vocabulary)
    return [_carried(Estimate(min(found) / uniform, n=n, flags=("no_interval",))), *metrics]


def _carried(estimate: Estimate) -> Metric:
    how = "the shorter adaptive code of orders 0 and 1, over tokens x log2(codes); it falls with more images"
    return estimate.metric("bits-carried", how, "fraction", "higher")


def _latents(task: CodesOfImages, units: Sequence[Stored]) -> list[Metric]:
    """Spread of the channels, and what noise on them costs."""
    count = int(joined(units, "count").sum())
    mean = joined(units, "sum").sum(0) / count
    covariance = joined(units, "square").sum(0) / count - np.outer(mean, mean)
    values = np.linalg.eigvalsh(covariance).clip(0)
    part = values[values > 0] / values.sum()
    rank = Estimate(float(np.exp(-(part * np.log(part)).sum())), n=count, flags=("no_interval",))
    lost = mean_with_interval(joined(units, "psnr") - joined(units, "psnr_noisy"))
    how = f"PSNR to the original without and with noise of {task.noise:g} standard deviations on every channel"
    return [
        rank.metric("effective-rank", "of the covariance of the channels over all positions", "channels", "higher"),
        lost.metric("noise-cost", how, "dB", "lower"),
    ]
