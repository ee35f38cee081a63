"""FID-infinity: the Frechet distance extrapolated to infinitely many samples (Chong and Forsyth, CVPR 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import counted
from ..estimate import Estimate, missing
from ..rows import Rows
from .frechet import frechet_distance, roots_of
from .influence import influence
from .moments import Accumulator, Factored, same_length
from .published_roots import Route, frechet_distance_by
from .score_interval import of_prefixes

POINTS, SMALLEST = 15, 5000


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """`estimate` is the intercept of the line through `distances` at 1 / `sizes`; `slope` the bias times n."""

    estimate: Estimate
    sizes: tuple[int, ...] = ()
    distances: tuple[float, ...] = ()
    slope: float | None = None


def dgm_smallest(n: int) -> int:
    """The first size in dgm-eval's schedule for n samples."""
    return min(5000, max(n // 10, 2))


def fid_infinity(
    samples: Rows,
    reference: Factored | Rows,
    *,
    points: int = POINTS,
    smallest: int | None = SMALLEST,
    seed: int = 0,
    root: Route | None = None,
) -> Extrapolation:
    """The intercept of a least-squares line of the distance against 1 / N, at `points` sizes from `smallest` to n.

    The sizes are prefixes of one shuffled order, so moments are added up once and nothing is computed twice.
    `smallest=None` is dgm-eval's schedule; `root`: of distances between singular covariances, by a tool's own route.
    Prefixes share samples, which the textbook error of a regression ignores: the interval is that of the intercept
    under their covariances, the part of order 1 / N^2 included (`Influence.covariance`), by the normal quantile, since
    these are estimated over all samples, and it is not of the line's own error at finite N.
    """
    n = len(samples)
    first = dgm_smallest(n) if smallest is None else smallest
    if n < 2 * first or n - first < points:
        needed = max(2 * first, first + points)
        why = f"{counted(n, 'sample')}, at least {needed} are needed to extrapolate from {first}"
        return Extrapolation(missing(why, n))
    real = reference if isinstance(reference, Factored) else Factored.of(reference)
    same_length(samples.shape[1], real.dimension)
    sizes = np.linspace(first, n, points).astype(np.int64)
    order = np.random.RandomState(seed).permutation(n)
    accumulator, distances, start = Accumulator(samples.shape[1]), [], 0
    for size in sizes:
        accumulator.merge(Accumulator.of_numbers(samples, order[start:size]))
        start = int(size)
        found = accumulator.moments()
        if not found.finite:
            return Extrapolation(missing("features of the samples are not finite", n))
        singular = min(size, real.moments.n) <= real.dimension
        by_tool = frechet_distance_by(root, found, real.moments) if root is not None and singular else None
        distances.append(frechet_distance(found, real) if by_tool is None else by_tool)
    whole = accumulator.moments()
    effect = influence(samples, whole, real, roots_of(whole, real), sizes)
    covariance = effect.covariance(sizes)
    design = np.stack([np.ones(points), 1 / sizes], axis=1)
    weights = np.linalg.pinv(design)  # (2, points): intercept and slope as sums over the distances
    intercept, slope = weights @ np.array(distances)
    flags = ["extrapolated"]
    if first <= real.dimension:
        flags.append("rank_deficient")  # below D samples the distance is not a line in 1 / N
    if n < 10 * real.dimension:
        flags.append("small_n")
    if effect.heavy:
        estimate = Estimate(float(intercept), n=n, flags=(*flags, "heavy_tails"))
    else:
        method = "leave-one-out over prefixes, reference fixed"
        law = of_prefixes(effect, sizes, weights[0], float(weights[0] @ covariance @ weights[0]))
        estimate = law.around(float(intercept), method, n, tuple(flags))
    return Extrapolation(estimate, tuple(sizes.tolist()), tuple(distances), float(slope))
