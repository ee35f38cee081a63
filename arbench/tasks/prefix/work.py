"""The work of `prefix`: images from the first codes, their PSNR, and how it grows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data.indexed import ImageSource
from ...gallery import Gallery
from ...images import to_uint8
from ...metrics.estimate import bounded, mean_with_interval, missing, share
from ...protocols import Codes, Tokenizer, TokenSpec
from ...protocols import Prefix as DecodesPrefixes
from ...spec.cell import Cell
from ...spec.result import At, Metric
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..outputs import check_images, encode, in_fixed_batches, join, load, spec_at, take
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
        for prefix in prefixes(spec_at(tokenizer, originals.shape[2:])):
            images = _decoded(tokenizer, codes, prefix, ids, originals.shape[2:])
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
        found = prefixes(spec_at(tokenizer, _source(task, context).resolution))
        metrics = _metrics(joined(units, "psnr"), found, task.within)
        return Finished(metrics, gallery=_gallery(task, units, found))


@dataclass(frozen=True, slots=True)
class Taken:
    """A prefix: `count` levels or tokens, `part` of the image's tokens; of variable length `part` alone counts."""

    count: int
    part: Fraction
    at: Mapping[str, At]
    words: str


def prefixes(spec: TokenSpec) -> list[Taken]:
    """Those that are decoded: every level of a pyramid; 1, 2, 4, ... and all tokens of a sequence; where sequences
    differ in length, 1/64, 1/32, ... and all of each."""
    if spec.variable_length:
        shares = [Fraction(1, 2**k) for k in range(6, -1, -1)]
        return [Taken(0, part, {"share": float(part)}, f"{part} of its tokens") for part in shares]
    counts = list(range(1, len(spec.levels) + 1))
    lengths = list(itertools.accumulate(math.prod(level) * spec.codebooks for level in spec.levels))
    if spec.layout != "pyramid":
        doubled = itertools.takewhile(lambda count: count < spec.tokens, (2**k for k in itertools.count()))
        counts = lengths = [*doubled, spec.tokens]
    return [
        Taken(
            count,
            Fraction(length, spec.tokens),
            {"prefix": count, "tokens": length},
            f"{length} token{'s' if length > 1 else ''}",
        )
        for count, length in zip(counts, lengths, strict=True)
    ]


def _source(task: Prefix, context: Context) -> ImageSource:
    return context.source(task.images)


def _decoded(tokenizer: Tokenizer, codes: Codes, prefix: Taken, ids: range, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """(n, 3, H, W) from the first levels or tokens."""
    assert isinstance(tokenizer, DecodesPrefixes)
    name = tokenizer.card.name

    def call(rows: Tensor) -> Tensor:
        part = take(codes, rows)
        if part.lengths is None:
            images = tokenizer.decode_prefix(part, prefix.count)
        else:
            counts = [max(1, math.ceil(length * prefix.part)) for length in part.lengths.tolist()]
            alone = [take(part, torch.tensor([row])) for row in range(len(counts))]
            images = torch.cat([tokenizer.decode_prefix(*each) for each in zip(alone, counts, strict=True)])
        return to_uint8(check_images(images, [ids[row] for row in rows.tolist()], size, name)).cpu()

    decoded: NDArray[np.uint8] = in_fixed_batches(len(ids), call).numpy()
    return decoded


def _metrics(psnr: NDArray[np.float64], found: list[Taken], within: float) -> tuple[Metric, ...]:
    """Of PSNR (n, prefixes), the last of which has all tokens."""
    of_each = [
        mean_with_interval(psnr[:, place]).metric(
            "prefix-psnr", f"from the first {prefix.words}, mean over images", "dB", "higher", at=prefix.at
        )
        for place, prefix in enumerate(found)
    ]
    needed = (psnr >= psnr[:, -1:] - within).argmax(1)  # the first that is near
    part = np.array([float(prefix.part) for prefix in found])[needed]
    rising = int((np.diff(psnr, axis=1) >= -FALL).all(1).sum())
    how = f"tokens of the shortest prefix decoded whose PSNR is within {within:g} dB of all, over all"
    return (
        bounded(mean_with_interval(part), most=1).metric("prefix-needed", how, "fraction", "lower"),
        share(rising, len(psnr)).metric(
            "prefix-monotone", "images whose PSNR falls with none of the longer prefixes", "fraction", "higher"
        ),
        *of_each,
    )


def _gallery(task: Prefix, units: Sequence[Stored], found: list[Taken]) -> Gallery | None:
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
        ("original", *(prefix.words for prefix in found)),
        (True, *(False for _ in found)),
        layers,
    )
