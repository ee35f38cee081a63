"""The work of `stability`: images are changed a little and encoded, and reconstructions are encoded again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...data.perturbations import NOISE, PERTURBATIONS, flipped, noisy
from ...metrics.codes import NO_TOKEN
from ...metrics.estimate import Estimate, bounded, mean_with_interval, missing, share
from ...protocols import Codes, Tokenizer, TokenSpec
from ...seeds import noise_for
from ...spec.cell import Cell
from ...spec.result import At, Metric
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..outputs import decode, encode, join, levels_of, load, side_by_side, spec_at, tokens_of
from . import Stability

Images = NDArray[np.uint8]


class StabilityWork:
    """A unit is a range of image indices. What is stored is a number per image, level and change."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task = cell.task
        assert isinstance(task, Stability)
        tokenizer, source = context.tokenizer(cell), context.source(task.images)
        ids = range(unit.start, unit.stop)
        images: Images = load(source, ids, tokenizer.card, "stability")
        encoding = _Encoding(tokenizer, spec_at(tokenizer, images.shape[2:]), task.batch, context)
        codes = encoding(images)
        first: Images = decode(tokenizer, codes, ids, images.shape[2:]).numpy()
        again = encoding(images)
        size = images.shape[2:]
        same = (_agreement(again, codes, encoding.spec) == 1).all(1) & (_latent_change(again, codes) == 0)
        arrays = {
            "sample_ids": np.array(ids, np.int64),
            "deterministic": same & (decode(tokenizer, again, ids, size).numpy() == first).all((1, 2, 3)),
        }
        normals = noise_for(cell.settings.seed, ids).normal("stability/noise", images.shape[1:]).numpy()
        changed = {NOISE: noisy(images, normals), **{name: change(images) for name, change in PERTURBATIONS.items()}}
        for name, pixels in changed.items():
            found = encoding(pixels)
            arrays[f"agreement {name}"] = _agreement(found, codes, encoding.spec)
            arrays[f"latents {name}"] = _latent_change(found, codes)
        mirrored = _mirrored(codes, encoding.spec)
        if mirrored is not None:
            arrays["flip"] = _agreement(encoding(flipped(images)), mirrored, encoding.spec)
        arrays |= _rounds(task.rounds, images, first, codes, ids, encoding, context)
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task = cell.task
        assert isinstance(task, Stability)
        size = context.source(task.images).resolution
        spec = spec_at(context.tokenizer(cell), size)
        metrics: list[Metric] = []
        for name in (NOISE, *PERTURBATIONS):
            metrics += _changes(units, spec, name, {"perturbation": name})
        for number in range(1, task.rounds + 1):
            metrics += _round(units, spec, number)
        metrics.append(_flip(units, spec))
        fixed = joined(units, "deterministic")
        how = "images whose codes and pixels are the same when they are encoded and decoded a second time"
        metrics.append(share(int(fixed.sum()), len(fixed)).metric("deterministic", how, "fraction", "higher"))
        return Finished(tuple(metrics))


class _Encoding:
    """Codes of a unit's images, `batch` at a time; each call that ends is told as progress."""

    def __init__(self, tokenizer: Tokenizer, spec: TokenSpec, batch: int, context: Context) -> None:
        self.tokenizer, self.spec, self._batch, self._context = tokenizer, spec, batch, context

    def __call__(self, images: Images) -> Codes:
        starts = range(0, len(images), self._batch)
        parts = [encode(self.tokenizer, images[start : start + self._batch], self._context.device) for start in starts]
        self._context.progress(0)
        return join(parts)


def _rounds(
    rounds: int, originals: Images, first: Images, codes: Codes, ids: range, encoding: _Encoding, context: Context
) -> Arrays:
    """Of every round k: codes against those of the round before, PSNR of its images to the originals."""
    psnr, arrays, images = context.pair_metrics(("psnr",)), {}, first
    for number in range(1, rounds + 1):
        arrays[f"psnr {number}"] = psnr(images, originals)["psnr"]
        found = encoding(images)
        arrays[f"agreement {number}"] = _agreement(found, codes, encoding.spec)
        arrays[f"latents {number}"] = _latent_change(found, codes)
        codes = found
        if number < rounds:
            images = decode(encoding.tokenizer, codes, ids, originals.shape[2:]).numpy()
    return arrays


def _agreement(one: Codes, other: Codes, spec: TokenSpec) -> NDArray[np.float64]:
    """(n, levels) share of equal codes, place by place; (n, 0) of continuous ones.

    Of variable length, places that only one of both has count as different.
    """
    if not one.ids:
        return np.zeros((len(other.latents) if other.latents is not None else 0, 0))
    count = len(one.ids[0])
    both = side_by_side([tokens_of(codes, count) for codes in (one, other)])
    pairs = zip(*(levels_of(spec, ids) for ids in (both[:count], both[count:])), strict=True)
    return np.stack([_equal(mine, theirs) for mine, theirs in pairs], axis=1)


def _equal(mine: NDArray[np.int32], theirs: NDArray[np.int32]) -> NDArray[np.float64]:
    here = (mine != NO_TOKEN) | (theirs != NO_TOKEN)
    return np.asarray(((mine == theirs) & here).sum(1) / here.sum(1), np.float64)


def _latent_change(one: Codes, other: Codes) -> NDArray[np.float64]:
    """(n,) |z' - z| / |z|; 0 for codes without latents."""
    if one.latents is None or other.latents is None:
        return np.zeros(len(one.ids[0]))
    mine, theirs = (codes.latents.double().flatten(1).cpu() for codes in (one, other) if codes.latents is not None)
    length = theirs.norm(dim=1).clamp(min=1e-12)
    return np.asarray(((mine - theirs).norm(dim=1) / length).numpy(), np.float64)


def _mirrored(codes: Codes, spec: TokenSpec) -> Codes | None:
    """The codes of the mirrored image, were the tokenizer to mirror its maps; None where codes have no place."""
    if not codes.ids or spec.layout == "sequence" or spec.codebooks != 1:
        return None
    maps = zip(codes.ids, spec.levels, strict=True)
    return Codes(ids=tuple(ids.reshape(len(ids), *level).flip(-1).flatten(1) for ids, level in maps))


def _overall(levels: NDArray[np.float64], spec: TokenSpec) -> NDArray[np.float64]:
    """(n,) the share of all codes, from that of each level."""
    weights = None if spec.variable_length else [math.prod(level) for level in spec.levels]
    return np.asarray(np.average(levels, axis=1, weights=weights), np.float64)


def _changes(units: Sequence[Stored], spec: TokenSpec, name: str, at: dict[str, At]) -> list[Metric]:
    """Codes that change, and by how much latents do, whichever the tokenizer has."""
    what = f"of the image after {name}, against those of the image"
    found = []
    if spec.kind != "continuous":
        changed = bounded(mean_with_interval(1 - _overall(joined(units, f"agreement {name}"), spec)), most=1)
        found.append(changed.metric("token-change", f"codes {what}", "fraction", "lower", at=at))
    if spec.kind != "discrete":
        moved = bounded(mean_with_interval(joined(units, f"latents {name}")))
        found.append(moved.metric("latent-change", f"|z' - z| / |z| {what}", "fraction", "lower", at=at))
    return found


def _round(units: Sequence[Stored], spec: TokenSpec, number: int) -> list[Metric]:
    at: dict[str, At] = {"round": number}
    what = "encoded from the reconstruction, against those that it was decoded from"
    found = []
    if spec.kind != "continuous":
        levels = joined(units, f"agreement {number}")
        whole = bounded(mean_with_interval(_overall(levels, spec)), most=1)
        found.append(whole.metric("token-agreement", f"codes {what}", "fraction", "higher", at=at))
        if number == 1 and levels.shape[1] > 1:
            for level, rows in enumerate(levels.T):
                of = bounded(mean_with_interval(rows), most=1)
                place: dict[str, At] = {**at, "level": level}
                found.append(of.metric("token-agreement", f"codes of a level {what}", "fraction", "higher", at=place))
    if spec.kind != "discrete":
        moved = bounded(mean_with_interval(joined(units, f"latents {number}")))
        found.append(moved.metric("latent-change", f"|z' - z| / |z| of latents {what}", "fraction", "lower", at=at))
    psnr = mean_with_interval(joined(units, f"psnr {number}"))
    found.append(psnr.metric("psnr-round", "to the original, mean over images", "dB", "higher", at=at))
    return found


def _flip(units: Sequence[Stored], spec: TokenSpec) -> Metric:
    estimate: Estimate = missing("its codes have no place in the image, or several of them share one", 0)
    if "flip" in units[0]:
        estimate = bounded(mean_with_interval(_overall(joined(units, "flip"), spec)), most=1)
    how = "codes of the mirrored image that are those of the image, mirrored"
    return estimate.metric("flip-agreement", how, "fraction", "higher")
