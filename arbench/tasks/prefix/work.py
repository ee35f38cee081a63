"""The work of `prefix`: images from the first codes, their PSNR, and how it grows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...gallery import Gallery
from ...images import to_uint8
from ...metrics.estimate import mean_with_interval, missing, share
from ...protocols import Codes, Tokenizer, TokenSpec
from ...protocols import Prefix as DecodesPrefixes
from ...spec.cell import Cell
from ...spec.result import Metric
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..outputs import check_images, encode, in_fixed_batches, join, load, take
from . import Prefix

FALL = 1e-6
"""dB by which PSNR may fall without counting as a fall: rounding."""


class PrefixWork:
    """A unit is a range of image indices; what is stored is the PSNR (n, prefixes) of each."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, Prefix)
        ids = range(unit.start, unit.stop)
        arrays: Arrays = {"sample_ids": np.array(ids, np.int64)}
        if not isinstance(tokenizer, DecodesPrefixes):
            return arrays
        originals = load(context.source(task.images), ids, tokenizer.card, "prefix")
        starts = range(0, len(ids), task.batch)
        codes = join([encode(tokenizer, originals[at : at + task.batch], context.device) for at in starts])
        psnr, rows, kept = context.pair_metrics(("psnr",)), [], []
        shown = max(0, min(task.show - unit.start, len(ids)))
        for count in counts(tokenizer.spec):
            images = _decoded(tokenizer, codes, count, ids)
            rows.append(psnr(images, originals)["psnr"])
            kept.append(images[:shown])
            context.progress(0)
        arrays |= {"psnr": np.stack(rows, axis=1), "shown": np.stack(kept, axis=1), "originals": originals[:shown]}
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, Prefix)
        if "psnr" not in units[0]:
            n = len(joined(units, "sample_ids"))
            nothing = missing(f"{tokenizer.card.name} does not decode prefixes (it has no `decode_prefix`)", n)
            return Finished(
                (
                    nothing.metric("prefix-needed", "no prefixes", "fraction", "lower"),
                    nothing.metric("prefix-monotone", "no prefixes", "fraction", "higher"),
                )
            )
        psnr, lengths = joined(units, "psnr"), tokens_in(tokenizer.spec)
        return Finished(_metrics(psnr, lengths, tokenizer.spec, task.within), gallery=_gallery(task, units, lengths))


def counts(spec: TokenSpec) -> list[int]:
    """The prefixes that are decoded: every level of a pyramid; 1, 2, 4, ... and all tokens of a sequence."""
    if spec.layout == "pyramid":
        return list(range(1, len(spec.levels) + 1))
    doubled = itertools.takewhile(lambda count: count < spec.tokens, (2**k for k in itertools.count()))
    return [*doubled, spec.tokens]


def tokens_in(spec: TokenSpec) -> list[int]:
    """How many tokens each of these prefixes has."""
    if spec.layout != "pyramid":
        return counts(spec)
    return list(itertools.accumulate(math.prod(level) * spec.codebooks for level in spec.levels))


def _decoded(tokenizer: Tokenizer, codes: Codes, count: int, ids: range) -> NDArray[np.uint8]:
    """(n, 3, H, W) from the first `count` levels or tokens."""
    assert isinstance(tokenizer, DecodesPrefixes)
    card = tokenizer.card

    def call(rows: Tensor) -> Tensor:
        images = tokenizer.decode_prefix(take(codes, rows), count)
        return to_uint8(check_images(images, [ids[row] for row in rows.tolist()], card.resolution, card.name)).cpu()

    decoded: NDArray[np.uint8] = in_fixed_batches(len(ids), call).numpy()
    return decoded


def _metrics(psnr: NDArray[np.float64], lengths: list[int], spec: TokenSpec, within: float) -> tuple[Metric, ...]:
    """Of PSNR (n, prefixes), the last of which has all tokens."""
    unit = "levels" if spec.layout == "pyramid" else "tokens"
    found = [
        mean_with_interval(psnr[:, place]).metric(
            "prefix-psnr",
            f"from the first {count} of {counts(spec)[-1]} {unit}, mean over images",
            "dB",
            "higher",
            at={"prefix": count, "tokens": length},
        )
        for place, (count, length) in enumerate(zip(counts(spec), lengths, strict=True))
    ]
    needed = (psnr >= psnr[:, -1:] - within).argmax(1)  # the first that is near
    part = np.array(lengths, np.float64)[needed] / lengths[-1]
    rising = int((np.diff(psnr, axis=1) >= -FALL).all(1).sum())
    how = f"tokens of the shortest prefix decoded whose PSNR is within {within:g} dB of all, over all"
    return (
        mean_with_interval(part).metric("prefix-needed", how, "fraction", "lower"),
        share(rising, len(psnr)).metric(
            "prefix-monotone", "images whose PSNR falls with none of the longer prefixes", "fraction", "higher"
        ),
        *found,
    )


def _gallery(task: Prefix, units: Sequence[Stored], lengths: list[int]) -> Gallery | None:
    if task.show == 0:
        return None
    shown = joined(units, "shown", task.show)  # (n, prefixes, 3, H, W)
    layers = np.concatenate([joined(units, "originals", task.show)[None], shown.transpose(1, 0, 2, 3, 4)])
    n = shown.shape[0]
    return Gallery(
        f"Prefixes of {task.data}",
        "rows",
        "From the first tokens alone; the first images, not selected.",
        np.arange(n),
        np.full((len(layers), n), -1),
        ("original", *(f"{length} token{'s' if length > 1 else ''}" for length in lengths)),
        (True, *(False for _ in lengths)),
        layers,
    )
