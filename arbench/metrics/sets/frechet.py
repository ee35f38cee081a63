"""Frechet distances with error bars, from features in memory or on disk and a reference of which moments suffice.

The default intervals take the reference as it is ("reference fixed"): they say how far another draw of samples would
land, which is what a comparison on one reference needs. All intervals are of the distance at this n; its upward bias of
order D / n is not removed unless the name says so, and numbers at different n do not compare.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ..estimate import Estimate, around_root, bounded, missing, student
from ..rows import Rows
from .influence import Influence, influence, overshoot
from .moments import (
    MINIMUM,
    NOT_FINITE,
    Accumulator,
    Factored,
    Floats,
    Moments,
    check_rows,
    moments,
    same_length,
    too_few,
)
from .score_interval import scatter
from .symmetric import cholesky, eigenvalues

BLOCKS = 20
"""Blocks of the jackknife."""


def frechet_distance(samples: Moments, reference: Factored | Moments) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), never below 0.

    The trace of the root is the sum of the roots of the eigenvalues of L^T S1 L, where S2 = L L^T: a symmetric problem,
    exact, and safe when a covariance is singular. The reference's L is computed once and kept.
    """
    real = reference if isinstance(reference, Factored) else Factored(reference)
    same_length(samples.dimension, real.dimension)
    return _assembled(samples, real.moments, float(roots_of(samples, real).sum()))


def frechet(
    samples: Rows,
    reference: Factored | Rows,
    *,
    method: str = "delta",
    reference_fixed: bool = True,
    ddof: int = 1,
    float32_mean: bool = False,
    known: Moments | None = None,
) -> Estimate:
    """The Frechet distance with a 95 % interval, in two passes over the samples (n, D).

    `delta`, written `leave-one-out` in results: the exact jackknife of single samples, less what it counts twice, on a
    smooth tail of the samples' lengths (`arbench.metrics.sets.influence`). With n <= D the covariance is singular and
    the distance is still defined; the estimate says `rank_deficient`. Where outliers that no such tail explains decide
    it, there is no interval, and the flag `heavy_tails`. `jackknife`: see `jackknife`; the value is the plain distance
    all the same.

    A bootstrap is refused: resampling repeats points, which adds the bias a second time, and its interval can miss the
    estimate itself. `known`: the samples' moments, if they are at hand already. `ddof` and `float32_mean` as in
    `moments`; a `Factored` is used as it stands. `reference_fixed=False` also covers another draw of the reference,
    and needs its features.
    """
    if method == "bootstrap":
        raise UsageError(
            "the bootstrap is wrong for Frechet distances",
            "a resample repeats points, so its distance carries the bias of order D / n twice: the interval is"
            " off-centre and can miss the estimate itself",
            "use method 'delta' (closed form) or 'jackknife' (leaves out blocks)",
        )
    if method not in ("delta", "jackknife"):
        raise UsageError(f"unknown method {method!r}", "known: delta, jackknife")
    check_rows(samples)
    real = _reference(reference, ddof, float32_mean, len(samples))
    if isinstance(real, Estimate):
        return real
    same_length(samples.shape[1], real.dimension)
    if not reference_fixed and isinstance(reference, Factored):
        raise UsageError(
            "the reference's own error needs its features", "only its moments are known", "give the reference's images"
        )
    short = too_few(len(samples), real.moments.n)
    if short:
        return missing(short, len(samples))
    found = known or moments(samples, ddof=ddof, float32_mean=float32_mean)
    if not found.finite or not real.moments.finite:
        return missing(NOT_FINITE.format("reference" if found.finite else "samples"), len(samples))
    flags = _flags(len(samples), real.moments.n, real.dimension)
    named = f"{'leave-one-out' if method == 'delta' else method}, reference {'fixed' if reference_fixed else 'random'}"
    if method == "jackknife":
        cut = _leave_out(samples, found, real, BLOCKS, 0)
        error, heavy = cut.error, cut.heavy
        if not reference_fixed and not isinstance(reference, Factored):
            back = _leave_out(reference, real.moments, Factored(found), BLOCKS, 0)
            error, heavy = math.hypot(error, back.error), heavy or back.heavy
        if heavy:
            return Estimate(cut.value, n=len(samples), flags=(*flags, "heavy_tails"))
        return around_root(cut.value, error, named, len(samples), flags, student(cut.blocks - 1))
    roots, product = _roots(samples, found, real)
    sides = [influence(samples, found, real, roots, product=product)]
    if not reference_fixed and not isinstance(reference, Factored):
        sides.append(influence(reference, real.moments, Factored(found), roots))
    value = _assembled(found, real.moments, float(roots.sum()))
    if any(side.heavy for side in sides):
        return Estimate(value, n=len(samples), flags=(*flags, "heavy_tails"))
    law = functools.reduce(operator.add, map(scatter, sides))
    return bounded(law.around(value, named, len(samples), flags))


def frechet_influence(samples: Rows, real: Factored) -> tuple[float, Influence] | Estimate:
    """The plain distance and what each sample does to it, for differences of two sets; or why there is none."""
    check_rows(samples)
    same_length(samples.shape[1], real.dimension)
    short = too_few(len(samples), real.moments.n)
    if short:
        return missing(short, len(samples))
    found = moments(samples)
    if not found.finite or not real.moments.finite:
        return missing(NOT_FINITE.format("reference" if found.finite else "samples"), len(samples))
    roots, product = _roots(samples, found, real)
    value = _assembled(found, real.moments, float(roots.sum()))
    return value, influence(samples, found, real, roots, product=product)


def _roots(samples: Rows, found: Moments, real: Factored) -> tuple[Floats, Floats | None]:
    """Square roots of the eigenvalues of L^T S L, and that matrix if it was made."""
    if len(samples) <= real.factor.shape[1]:
        return _roots_of_rows(samples, found, real), None
    product = real.product(found.covariance)
    return _kept_roots(eigenvalues(product), found, real), product


@dataclass(frozen=True, slots=True)
class Jackknife:
    """`value` is the plain distance, `bias` its estimated bias at this n; `corrected` is the value without it."""

    value: float
    error: float
    bias: float
    corrected: Estimate
    blocks: int
    heavy: bool = False
    """Whether a few samples decide the distance: see `Influence.heavy`."""


def jackknife(
    samples: Rows,
    reference: Factored | Rows,
    *,
    groups: int = BLOCKS,
    seed: int = 0,
    ddof: int = 1,
    known: Moments | None = None,
) -> Jackknife | Estimate:
    """The distance with one of `groups` random blocks left out at a time: standard error, bias, corrected value.

    Only moments of blocks are held. Blocks are drawn at random, since files are often sorted by class. The corrected
    value estimates the distance at infinite n, as `fid_infinity` does. Null with its reason if there are too few rows.
    """
    check_rows(samples)
    real = _reference(reference, ddof, False, len(samples))
    if isinstance(real, Estimate):
        return real
    same_length(samples.shape[1], real.dimension)
    short = too_few(len(samples), real.moments.n)
    if short:
        return missing(short, len(samples))
    found = known or moments(samples, ddof=ddof)
    if not found.finite or not real.moments.finite:
        return missing(NOT_FINITE.format("reference" if found.finite else "samples"), len(samples))
    return _leave_out(samples, found, real, groups, seed)


def _leave_out(samples: Rows, found: Moments, real: Factored, groups: int, seed: int) -> Jackknife:
    n, ddof = found.n, found.ddof
    groups = min(groups, n)
    order = np.random.RandomState(seed).permutation(n)
    roots = roots_of(found, real)
    value = _assembled(found, real.moments, float(roots.sum()))
    left = np.empty(groups)
    for index, part in enumerate(np.array_split(order, groups)):
        block = Accumulator.of_numbers(samples, part)
        rest = n - block.n
        shift = block.mean - found.mean
        # Chan's merge backwards: the whole without the block
        scatter = found.covariance * (n - ddof) - block.scatter - np.outer(shift, shift) * (block.n * n / rest)
        mean = found.mean - shift * (block.n / rest)
        left[index] = frechet_distance(Moments(mean, scatter / (rest - ddof), rest, ddof), real)
    variance = (groups - 1) * float(left.var())
    effect = influence(samples, found, real, roots)
    variance *= effect.smoothing
    variance = max(variance / 2, variance - overshoot(effect))
    error = math.sqrt(variance)
    bias = (groups - 1) * (float(left.mean()) - value)
    flags = (*_flags(n, real.moments.n, real.dimension), "bias_corrected")
    named = f"jackknife of {groups} blocks, reference fixed"
    corrected = _around_blocks(value - bias, error, groups, named, n, flags)
    if effect.heavy:
        corrected = Estimate(corrected.value, n=n, flags=(*flags, "heavy_tails"))
    return Jackknife(value, error, bias, corrected, groups, effect.heavy)


def _around_blocks(value: float, error: float, groups: int, method: str, n: int, flags: tuple[str, ...]) -> Estimate:
    """Student's interval: an error from so few blocks is itself uncertain."""
    half = student(groups - 1) * error
    return Estimate(value, value - half, value + half, method, n, flags)


def _reference(reference: Factored | Rows, ddof: int, float32_mean: bool, n: int) -> Factored | Estimate:
    if isinstance(reference, Factored):
        return reference
    check_rows(reference)
    if len(reference) < MINIMUM:
        return missing(too_few(max(n, MINIMUM), len(reference)), n)
    return Factored.of(reference, ddof=ddof, float32_mean=float32_mean)


def _flags(n: int, m: int, dimension: int) -> tuple[str, ...]:
    flags = []
    if min(n, m) <= dimension:
        flags.append("rank_deficient")
    if n < 10 * dimension:
        flags.append("small_n")
    return tuple(flags)


def _assembled(one: Moments, two: Moments, cross: float) -> float:
    shift = one.mean - two.mean
    return max(0.0, float(shift @ shift) + float(np.trace(one.covariance) + np.trace(two.covariance)) - 2 * cross)


def roots_of(found: Moments, real: Factored) -> Floats:
    """Square roots (r,) of the eigenvalues of L^T S L."""
    return _kept_roots(eigenvalues(real.product(found.covariance)), found, real)


def _roots_of_rows(rows: Rows, found: Moments, real: Factored) -> Floats:
    """The same of few rows: singular values, not the roots of a Gram matrix's eigenvalues, which lose half of the
    digits."""
    centred = (np.asarray(rows[0 : found.n], np.float64) - found.mean) @ real.factor
    return np.asarray(np.linalg.svd(centred / math.sqrt(found.n - found.ddof), compute_uv=False), np.float64)


def _kept_roots(values: NDArray[np.floating[Any]], found: Moments, real: Factored) -> Floats:
    """Roots of the eigenvalues of L^T S L, zero for those that are rounding noise, since their roots add up.

    Noise are they where a covariance is singular. Else small ones are right: of a spectrum that falls by 1e7 and more,
    all but a few lie below the noise that a general matrix would have.
    """
    floor = len(values) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    if values[0] > floor:
        return np.asarray(np.sqrt(values), np.float64)
    if real.definite and found.n > found.dimension and cholesky(found.covariance) is not None:
        return np.asarray(np.sqrt(values.clip(0)), np.float64)
    return np.asarray(np.sqrt(np.where(values > floor, values, 0.0)), np.float64)
