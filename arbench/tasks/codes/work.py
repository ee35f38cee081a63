"""The work of `codes`: images are encoded; ids are kept, of latents the sums that their covariance needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...seeds import noise_for
from ...spec.cell import Cell
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored
from ..outputs import decode, encode, join, load, side_by_side, spec_at, take, tokens_of
from . import CodesOfImages, continuous, discrete, swaps


class CodesWork:
    """A unit is a range of image indices."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, CodesOfImages)
        ids = range(unit.start, unit.stop)
        images = load(context.source(task.images), ids, tokenizer.card, "codes")
        spec, size = spec_at(tokenizer, images.shape[2:]), images.shape[2:]
        parts = []
        for start in range(0, len(ids), task.batch):
            parts.append(encode(tokenizer, images[start : start + task.batch], context.device))
            context.progress(min(start + task.batch, len(ids)))
        codes = join(parts)
        arrays: Arrays = {"sample_ids": np.array(ids, np.int64), "tokens": tokens_of(codes, len(ids))}
        if spec.kind == "continuous" and codes.latents is not None:
            noise = noise_for(cell.settings.seed, ids)
            psnr = context.pair_metrics(("psnr",))
            arrays |= continuous.measured(tokenizer, codes, images, task.batch, context.device)
            plain: NDArray[np.uint8] = decode(tokenizer, codes, ids, size).numpy()
            arrays["psnr"] = psnr(plain, images)["psnr"]
            costs, errors = [], []
            for amount in task.noise:
                changed = continuous.decoded_with_noise(tokenizer, codes, amount, ids, noise, size)
                costs.append(arrays["psnr"] - psnr(changed, images)["psnr"])
                errors.append(np.sqrt(np.square(changed.astype(np.float64) - plain).mean((1, 2, 3))))
                context.progress(len(ids))
            arrays |= {"noise cost": np.stack(costs, axis=1), "noise error": np.stack(errors, axis=1)}
        swapped = range(unit.start, min(unit.stop, task.swaps))
        if swapped and not swaps.why_not(tokenizer):
            few = take(codes, torch.arange(len(swapped)))
            before: NDArray[np.uint8] = decode(tokenizer, few, swapped, size).numpy()
            arrays |= swaps.measured(tokenizer, few, before, swapped, noise_for(cell.settings.seed, swapped))
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, CodesOfImages)
        spec = spec_at(tokenizer, context.source(task.images).resolution)
        if spec.kind == "continuous" or spec.vocabulary is None:
            return Finished((*discrete.no_codebook(), *continuous.numbers(units, task.noise)))
        ids = side_by_side([unit["tokens"] for unit in units])
        with_swaps = [unit for unit in units if "swap change" in unit]
        return Finished((*discrete.numbers(spec, spec.vocabulary, ids), *swaps.numbers(tokenizer, with_swaps)))
