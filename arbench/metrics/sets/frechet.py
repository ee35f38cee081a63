"""Frechet distances with error bars, from features in memory or on disk and a reference of which moments suffice.

The default intervals take the reference as it is ("reference fixed"): they say how far another draw of samples would
land, which is what a comparison on one reference needs. All intervals are of the distance at this n; its upward bias of
order D / n is not removed unless the name says so, and numbers at different n do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ..estimate import Estimate, around, missing, student
from ..rows import BLOCK, Rows, blocks
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
from .symmetric import cholesky, eigenvalues, eigenvectors

BLOCKS = 20
"""Blocks of the jackknife."""
LARGE, FLOOR = 256, 1e-6


def frechet_distance(samples: Moments, reference: Factored | Moments) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), never below 0.

    The trace of the root is the sum of the roots of the eigenvalues of L^T S1 L, where S2 = L L^T: a symmetric problem,
    exact, and safe when a covariance is singular. The reference's L is computed once and kept.
    """
    real = reference if isinstance(reference, Factored) else Factored(reference)
    same_length(samples.dimension, real.dimension)
    return _assembled(samples, real.moments, float(_roots(samples, real).sum()))


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

    `delta`: with the optimal transport map T from the samples' Gaussian to the reference's, a sample x at d = x - mean
    moves the distance by `2 d.(mean - mean_ref) + |d|^2 - d.T d` / n (centred); the variance is that of these over n,
    less what the derivative at a sample counts twice (`_overshoot`). With n <= D the covariance is singular, the
    distance is still defined, and the same formula without correction is the infinitesimal jackknife; the estimate says
    `rank_deficient`. In simulations the standard error is then 10 to 50 % too large: caution.
    `jackknife`: see `jackknife`; the value is the plain distance all the same.

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
    named = f"{method}, reference {'fixed' if reference_fixed else 'random'}"
    if method == "jackknife":
        cut = _leave_out(samples, found, real, BLOCKS, 0)
        error = cut.error
        if not reference_fixed and not isinstance(reference, Factored):
            error = math.hypot(error, _leave_out(reference, real.moments, Factored(found), BLOCKS, 0).error)
        return _around_blocks(cut.value, error, cut.blocks, named, len(samples), flags)
    side = _transport(samples, found, real)
    variance = _influence_variance(samples, found, real.moments, side)
    if not reference_fixed and not isinstance(reference, Factored):
        back = _transport(reference, real.moments, Factored(found))
        variance += _influence_variance(reference, real.moments, found, back)
    value = _assembled(found, real.moments, float(side.roots.sum()))
    return around(value, math.sqrt(variance), named, len(samples), flags)


@dataclass(frozen=True, slots=True)
class Jackknife:
    """`value` is the plain distance, `bias` its estimated bias at this n; `corrected` is the value without it."""

    value: float
    error: float
    bias: float
    corrected: Estimate
    blocks: int


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
    roots = _roots(found, real)
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
    if n > real.factor.shape[1]:
        variance = _corrected(variance, roots, n)
    error = math.sqrt(variance)
    bias = (groups - 1) * (float(left.mean()) - value)
    flags = (*_flags(n, real.moments.n, real.dimension), "bias_corrected")
    named = f"jackknife of {groups} blocks, reference fixed"
    corrected = _around_blocks(value - bias, error, groups, named, n, flags)
    return Jackknife(value, error, bias, corrected, groups)


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


def _roots(found: Moments, real: Factored) -> Floats:
    """Square roots (r,) of the eigenvalues of L^T S L."""
    root = real.factor
    return _kept_roots(eigenvalues(root.T @ found.covariance @ root), found, real)


def _corrected(variance: float, roots: Floats, n: int) -> float:
    """A variance from derivatives without its overshoot, which can be half of it at most."""
    return max(variance / 2, variance - _overshoot(roots, n))


def _overshoot(s: Floats, n: int) -> float:
    """2 E q(x, x')^2 / n^2: the variance of the distance's quadratic part, which derivatives at a sample count twice.

    To second order the distance is a mean of influences plus 1 / n^2 sum_ij q(x_i, x_j), and the derivative by sample i
    holds 2 / n sum_j q(x_i, x_j), whose variance is 4 E q^2 / n: twice too much. It shows where the two sets are alike
    or n / D is small. With u the sample in the basis that whitens it and diagonalises L^T S L = diag(s^2),
    q = d.T d' + 1/2 sum_jk w_jk (u_j u_k - [j = k]) (u'_j u'_k - [j = k]), w_jk = s_j s_k / (s_j + s_k), and for
    Gaussian rows E q^2 is as below; heavier tails make it larger, so that less than the overshoot is taken off.
    """
    s = s[s > 0]
    squares = sum(float(np.square(each * s / (each + s)).sum()) for each in s)
    return 2 / n**2 * (squares / 2 + float((s**2).sum()) / 8 + float((s**2).sum()))


def _kept_roots(values: NDArray[np.floating[Any]], found: Moments, real: Factored) -> Floats:
    """Roots of the eigenvalues of L^T S L, zero for those that are rounding noise, since their roots add up.

    Noise are they where a covariance is singular. Else small ones are right: of a spectrum that falls by 1e7 and more,
    all but a few lie below the noise that a general matrix would have.
    """
    if real.definite and found.n > found.dimension and cholesky(found.covariance) is not None:
        return np.asarray(np.sqrt(values.clip(0)), np.float64)
    floor = len(values) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    return np.asarray(np.sqrt(np.where(values > floor, values, 0.0)), np.float64)


@dataclass(frozen=True, slots=True)
class _Transport:
    """The roots s that add up to tr (S_x S_ref)^(1/2), and d.T d of samples: `known`, or |d @ `through`|^2."""

    roots: Floats
    known: Floats | None = None
    through: NDArray[np.floating[Any]] | None = None

    def quadratic(self, centred: Floats, start: int) -> Floats:
        if self.through is None:
            assert self.known is not None
            return self.known[start : start + len(centred)]
        projected = centred.astype(self.through.dtype, copy=False) @ self.through
        return np.asarray(np.einsum("ij,ij->i", projected, projected), np.float64)


def _transport(rows: Rows, found: Moments, real: Factored) -> _Transport:
    """With S_ref = L L^T and L^T S_x L = V diag(s^2) V^T, the trace is the sum of s and d.T d = |d L V s^(-1/2)|^2.

    No inverse of a covariance is taken, so a singular one is safe. With n <= r the same comes from the singular
    values of the n rows times L. Of LARGE matrices the roots alone are in float64: d.T d is for the interval, whose
    width float32 leaves as it is to 0.5 % (less where spectra are flatter than 1 / k^2).
    """
    root = real.factor  # (D, r)
    n = found.n
    if n <= root.shape[1]:
        centred = np.asarray(rows[0:n], np.float64) - found.mean
        # singular values, not the roots of a Gram matrix's eigenvalues: those lose half of the digits
        u, s, _ = np.linalg.svd(centred @ root / math.sqrt(n - found.ddof), full_matrices=False)
        return _Transport(s, known=(n - found.ddof) * (u**2 @ s))
    product = root.T @ found.covariance @ root
    if len(product) >= LARGE:
        s = _kept_roots(eigenvalues(product), found, real)
        scale = float(np.trace(product)) or 1.0
        values, vectors = eigenvectors((product / scale).astype(np.float32))
        # what is smaller than float32 can tell has no weight in a sum of s^2, and must not be divided by
        values = values.clip(FLOOR * max(float(values[-1]), FLOOR))
        return _Transport(s, through=(root * scale**-0.25).astype(np.float32) @ vectors * values**-0.25)
    values, vectors = np.linalg.eigh(product)
    s = _kept_roots(values, found, real)
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=s > 0)
    return _Transport(s, through=(root @ vectors) * np.sqrt(inverse))


def _centred(rows: Rows, mean: NDArray[np.floating[Any]]) -> Iterator[tuple[int, Floats]]:
    start = 0
    for block in blocks(rows, BLOCK):
        yield start, block - mean
        start += len(block)


def _influence_variance(rows: Rows, found: Moments, other: Moments, side: _Transport) -> float:
    """Variance of the distance that comes from the rows of one set."""
    n, shift = found.n, found.mean - other.mean
    influence = np.empty(n)
    for start, centred in _centred(rows, found.mean):
        squares = np.einsum("ij,ij->i", centred, centred)
        of_covariance = (squares - side.quadratic(centred, start)) * n / (n - found.ddof)
        influence[start : start + len(centred)] = 2 * centred @ shift + of_covariance
    variance = float(np.var(influence, ddof=1)) / n
    return variance if side.through is None else _corrected(variance, side.roots, n)
