"""Reconstruct: encode and decode held-out images with a tokenizer, and compare them with the originals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..images import pack
from ..metrics.classifier import class_agreement
from ..metrics.codes import CodeUse, bits_per_image, code_use, code_use_by_level
from ..metrics.estimate import Estimate, mean_with_interval, missing
from ..metrics.pairs.paired import feature_cosine, psnr, ssim_gaussian11
from ..metrics.pairs.ssim import TAPS
from ..metrics.sets.frechet import frechet
from ..protocols import Card, Codes, Tokenizer, TokenSpec
from ..spec.cell import Cell, Unit
from ..spec.result import Metric
from ..spec.suite import Reconstruct
from .base import Arrays, Context, Finished, joined
from .outputs import decode, encode, features_of, join, load, tokens_of, unclassifiable

SHOWN = 20
"""Pairs kept for the report."""


class ReconstructTask:
    """A unit is a range of image indices."""

    @torch.inference_mode()
    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task = cell.task
        assert isinstance(task, Reconstruct)
        tokenizer, source = context.tokenizer(cell), context.source(task.data)
        card, ids = tokenizer.card, range(unit.start, unit.stop)
        originals = load(source, ids, card, "reconstruct")
        codes = _encode(tokenizer, originals, task.batch, context)
        images: NDArray[np.uint8] = decode(tokenizer, codes, ids).numpy()  # (n, 3, H, W)
        features = features_of(context, images)
        before = _original_features(task, originals, ids, context)
        arrays: Arrays = {
            "image_ids": np.array(ids, dtype=np.int64),
            "ids": tokens_of(codes, len(ids)),
            "psnr": psnr(images, originals),
            "feature_distance": feature_cosine(features, before),
            "features": features,
            "original_features": before,
            "reconstructions": images,
        }
        if card.resolution >= TAPS:
            arrays["ssim"] = ssim_gaussian11(images, originals)
        if not unclassifiable(card, task.data):
            arrays["predicted"] = context.shared("classifier").predict(images)
        return arrays

    def finish(self, cell: Cell, units: Sequence[Arrays], context: Context) -> Finished:
        tokenizer = context.tokenizer(cell)
        metrics = (
            *_paired_metrics(units, context),
            _distance_metric(units, context),
            *_code_metrics(tokenizer.spec, joined(units, "ids")),
            _agreement(cell, tokenizer.card, units, context),
        )
        return Finished(metrics, artifacts=_artifacts(cell, units, context))


def _original_features(
    task: Reconstruct, originals: NDArray[np.uint8], ids: range, context: Context
) -> NDArray[np.float32]:
    """(n, D) features of a unit's originals; those of the whole source, kept for all cells, where most are needed."""
    if 2 * (task.n or 0) >= len(context.source(task.data)):
        return context.reference(task.data)[ids.start : ids.stop]
    return features_of(context, originals)


def _encode(tokenizer: Tokenizer, originals: NDArray[np.uint8], batch: int, context: Context) -> Codes:
    """The codes of a unit's images, encoded `batch` at a time."""
    parts = []
    for start in range(0, len(originals), batch):
        parts.append(encode(tokenizer, originals[start : start + batch], context.device))
        context.progress(min(start + batch, len(originals)))
    return join(parts)


def _paired_metrics(units: Sequence[Arrays], context: Context) -> list[Metric]:
    """Means over images of what compares one reconstruction with its original."""
    extractor = context.shared("features")
    small = missing(f"SSIM needs images of at least {TAPS} x {TAPS}")
    similarity = mean_with_interval(joined(units, "ssim")) if "ssim" in units[0] else small
    distance = mean_with_interval(joined(units, "feature_distance"))
    return [
        mean_with_interval(joined(units, "psnr")).metric(
            "psnr", "mean over images of 10 log10(255^2 / mse), uint8, RGB", "dB", "higher"
        ),
        similarity.metric("ssim", "11 x 11 Gaussian window, sigma 1.5, uint8, per channel", "", "higher"),
        distance.metric(
            f"feature-distance-{extractor.name}", f"1 - cosine; {extractor.convention}; not LPIPS", "", "lower"
        ),
    ]


def _distance_metric(units: Sequence[Arrays], context: Context) -> Metric:
    """Frechet distance between the reconstructions and the same images."""
    extractor, features = context.shared("features"), joined(units, "features")
    convention = f"{extractor.convention}; against the same {len(features)} images; not rFID"
    estimate = frechet(features, joined(units, "original_features"))
    return estimate.metric(f"rfd-{extractor.name}", convention, "", "lower")


def _code_metrics(spec: TokenSpec, ids: NDArray[np.int32]) -> list[Metric]:
    """Use of the codebook, all levels in one histogram and each level of a pyramid by itself, and bits per image."""
    if spec.vocabulary is None or spec.kind == "continuous":
        nothing = missing("continuous latents have no codebook", len(ids))
        use = CodeUse(None, len(ids), 0, nothing, nothing, nothing, 0)
        dead = entropy = uniform = nothing
        levels = []
    else:
        use = code_use(ids, spec.vocabulary)
        dead = Estimate(float(use.dead), n=use.tokens, flags=use.usage.flags)
        entropy = bits_per_image(_levels(spec, ids), spec.vocabulary)
        uniform = Estimate(spec.bits, n=len(ids))
        levels = code_use_by_level(_levels(spec, ids), spec.vocabulary) if len(spec.levels) > 1 else []
    return [
        *_use_metrics(use, "", "all levels and codebooks in one histogram"),
        dead.metric("dead-codes", "codes never seen", "codes", "lower"),
        uniform.metric("bits-per-image", "tokens x log2(codes)", "bits", "lower"),
        entropy.metric("bits-per-image-entropy", "tokens coded with the histogram of their level", "bits", "lower"),
        *(
            metric
            for level, shape in zip(levels, spec.levels, strict=False)
            for metric in _use_metrics(level, f"-level{level.level}", f"level of {' x '.join(map(str, shape))} tokens")
        ),
    ]


def _use_metrics(use: CodeUse, end: str, of: str) -> tuple[Metric, Metric]:
    return (
        use.usage.metric(f"codebook-used{end}", f"share of codes seen at least once, {of}", "fraction", "higher"),
        use.perplexity.metric(f"codebook-perplexity{end}", f"2^entropy, {of}", "codes", "higher"),
    )


def _levels(spec: TokenSpec, ids: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    """(n, tokens) cut back into levels."""
    sizes = [math.prod(level) * spec.codebooks for level in spec.levels]
    return np.split(ids, list(itertools.accumulate(sizes))[:-1], axis=1)


def _agreement(cell: Cell, card: Card, units: Sequence[Arrays], context: Context) -> Metric:
    """How many reconstructions are still classified as what the original is."""
    assert isinstance(cell.task, Reconstruct)
    reason = unclassifiable(card, cell.task.data)
    ids = joined(units, "image_ids")
    labels = context.source(cell.task.data).labels
    estimate = missing(reason or "the images have no labels", len(ids))
    convention = "reconstructions classified as the label of their original"
    if not reason and labels is not None:
        estimate = class_agreement(joined(units, "predicted"), labels[ids])
        convention = f"{convention}; {context.shared('classifier').convention}"
    return estimate.metric("class-agreement", convention, "fraction", "higher")


def _artifacts(cell: Cell, units: Sequence[Arrays], context: Context) -> dict[str, bytes]:
    """The first originals with their reconstructions."""
    assert isinstance(cell.task, Reconstruct)
    ids = joined(units, "image_ids")[:SHOWN]
    originals = context.source(cell.task.data).load(ids.tolist())
    pairs = {"ids": ids, "originals": originals, "reconstructions": joined(units, "reconstructions")[:SHOWN]}
    return {"pairs.npz": pack(pairs)}
