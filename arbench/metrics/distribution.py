"""Distances between two sets of features: Frechet distance, kernel distance, precision and recall, with error bars.

Everywhere `features` are of the samples, `reference` of the real images, both (n, D). The default intervals take the
reference set as it is ("reference fixed"): they say how far another draw of samples would land, which is what a
comparison on one reference needs. With `reference_fixed=False` they also cover another draw of the reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .estimate import Estimate, around, missing, share

Floats = NDArray[np.float64]
MINIMUM = 16
"""Fewer samples than this, on either side, give no value: neither the number nor its interval would mean anything."""
CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean (D,) and covariance (D, D, divided by n - 1) of n vectors, float64."""

    mean: Floats
    covariance: Floats
    n: int


def moments(features: NDArray[Any]) -> Moments:
    rows = _rows(features)
    if len(rows) < 2:
        raise InputError("a covariance needs at least two vectors", f"found {len(rows)}")
    centred = rows - rows.mean(0)
    return Moments(rows.mean(0), centred.T @ centred / (len(rows) - 1), len(rows))


def frechet_distance(mu1: Floats, sigma1: Floats, mu2: Floats, sigma2: Floats) -> float:
    """|mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2)), never below 0.

    The trace of the root is the sum of the roots of the eigenvalues of L^T sigma2 L, where sigma1 = L L^T: a symmetric
    problem, exact, and safe when a covariance is singular.
    """
    root = _factor(sigma1)
    eigenvalues = np.linalg.eigvalsh(root.T @ sigma2 @ root)
    cross = float(np.sqrt(_significant(eigenvalues)).sum())
    shift = np.asarray(mu1, np.float64) - np.asarray(mu2, np.float64)
    return max(0.0, float(shift @ shift + np.trace(sigma1) + np.trace(sigma2)) - 2 * cross)


def frechet(features: NDArray[Any], reference: NDArray[Any], *, reference_fixed: bool = True) -> Estimate:
    """The Frechet distance with the delta method's 95 % interval.

    The interval is that of the distance at this n, whose upward bias of order D / n it does not remove: numbers at
    different n do not compare. A bootstrap is not offered: resampling adds the bias a second time, and its interval
    can miss the estimate itself. With the optimal transport map T from the samples' Gaussian to the reference's, a
    sample x at d = x - mean moves the distance by `2 d.(mean - mean_ref) + |d|^2 - d.T d` / n (centred); the
    standard error is the standard deviation of that over sqrt(n). With n <= D the covariance is singular, the distance
    is still defined, and the same formula is the infinitesimal jackknife; the estimate says `rank_deficient`. In
    simulations the standard error is then 10 to 50 % too large, so the interval errs on the side of caution.
    """
    x, y = _rows(features), _rows(reference)
    short = _too_few(x, y)
    if short:
        return missing(short, len(x))
    shift, xc, yc = x.mean(0) - y.mean(0), x - x.mean(0), y - y.mean(0)
    transported, cross = _transported(xc, yc)
    value = float(shift @ shift) + float((xc**2).sum() / (len(x) - 1) + (yc**2).sum() / (len(y) - 1)) - 2 * cross
    variance = _influence_variance(xc, shift, transported)
    if not reference_fixed:
        variance += _influence_variance(yc, -shift, _transported(yc, xc)[0])
    flags = []
    if min(len(x), len(y)) <= x.shape[1]:
        flags.append("rank_deficient")
    if len(x) < 10 * x.shape[1]:
        flags.append("small_n")
    return _distance(max(0.0, value), math.sqrt(variance), "delta", len(x), reference_fixed, tuple(flags))


def kid(features: NDArray[Any], reference: NDArray[Any], *, reference_fixed: bool = True) -> Estimate:
    """The kernel distance over all pairs: the unbiased squared MMD of the kernel (x.y / D + 1)^3.

    No random subsets: this is the quantity that they estimate. The variance is that of a two-sample U-statistic, every
    term estimated without bias from the same kernel matrices: the linear term 4/n Var(a(x) - c(x)), which vanishes
    when the two distributions agree, and the quadratic one 2/(n (n - 1)) E a2^2 (+ 4/(n m) E c2^2), which does not.
    Here a and c are the kernel's means over samples and over references, a2 and c2 what is left of it without them.
    The value may be below 0.
    """
    x, y = _rows(features), _rows(reference)
    short = _too_few(x, y)
    if short:
        return missing(short, len(x))
    n, m = len(x), len(y)
    xx, yy, xy = _kernel_sums(x, x, same=True), _kernel_sums(y, y, same=True), _kernel_sums(x, y, same=False)
    value = float(xx.rows.sum() / (n * (n - 1)) + yy.rows.sum() / (m * (m - 1)) - 2 * xy.rows.sum() / (n * m))
    pair_x, pair_y, pair_xy = _within(xx), _within(yy), _between(xy)
    linear_x = float(np.var(xx.rows / (n - 2) - xy.rows / m, ddof=1)) - pair_x / (n - 2)
    linear_y = float(np.var(yy.rows / (m - 2) - xy.columns / n, ddof=1)) - pair_y / (m - 2)
    if reference_fixed:
        variance = 4 / n * max(0.0, linear_x) + 2 / (n * (n - 1)) * pair_x
    else:
        linear = 4 / n * max(0.0, linear_x - pair_xy / m) + 4 / m * max(0.0, linear_y - pair_xy / n)
        quadratic = 2 / (n * (n - 1)) * pair_x + 2 / (m * (m - 1)) * pair_y + 4 / (n * m) * pair_xy
        variance = linear + quadratic
    return _distance(value, math.sqrt(max(0.0, variance)), "u-statistic", n, reference_fixed, ())


def kid_subsets(
    features: NDArray[Any],
    reference: NDArray[Any],
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 2020,
    reference_first: bool = False,
) -> Estimate:
    """The kernel distance as torch-fidelity computes it: the mean over random subsets, in float32.

    `low` and `high` are the mean -+ the standard deviation over subsets, which is the number that torch-fidelity prints
    beside the mean, and no confidence interval. clean-fid is `seed=0` after `numpy.random.seed(0)`; dgm-eval too, and
    draws from the reference first.
    """
    x, y = np.asarray(features, np.float32), np.asarray(reference, np.float32)
    if min(len(x), len(y)) < size:
        return missing(f"{min(len(x), len(y))} vectors, and a subset takes {size}", len(x))
    draw = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        drawn = [
            points[draw.choice(len(points), size, replace=False)] for points in ((y, x) if reference_first else (x, y))
        ]
        within = sum((kernel.sum(1) - kernel.diagonal()).sum() for kernel in (_kernel(part, part) for part in drawn))
        values.append(within / (size * (size - 1)) - 2 * _kernel(*drawn).sum(0).sum() / size**2)
    mean, spread = float(np.mean(values)), float(np.std(values))
    return Estimate(mean, mean - spread, mean + spread, "std over subsets", len(x))


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    precision: Estimate
    recall: Estimate


def precision_recall(features: NDArray[Any], reference: NDArray[Any], k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al., 2019) as in torch-fidelity: Euclidean, float32, closed balls.

    A point's ball reaches its k-th neighbour within its own set. Precision: share of samples inside a ball of the
    reference. Recall: share of references inside a ball of the samples. The intervals are Wilson's, with the balls
    taken as fixed, so they leave out how the balls themselves vary from draw to draw; they are a lower limit.
    """
    import torch

    x, y = (torch.from_numpy(np.ascontiguousarray(rows, np.float32)) for rows in (features, reference))
    short = _too_few(x, y, minimum=max(MINIMUM, k + 2))
    if short:
        return PrecisionRecall(missing(short, len(x)), missing(short, len(x)))

    def radii(points: torch.Tensor) -> torch.Tensor:
        chunks = [torch.cdist(chunk, points).kthvalue(k + 1, dim=1).values for chunk in torch.split(points, CHUNK)]
        return torch.cat(chunks)  # k + 1: a point's nearest neighbour is itself

    radii_x, radii_y = radii(x), radii(y)
    covered_x = torch.zeros(len(x), dtype=torch.bool)
    covered_y = torch.zeros(len(y), dtype=torch.bool)
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        distances = torch.cdist(x[rows], y)  # (c, m)
        covered_x[rows] = (distances <= radii_y).any(1)
        covered_y |= (distances <= radii_x[rows, None]).any(0)
    method = "wilson, balls fixed"
    return PrecisionRecall(
        share(int(covered_x.sum()), len(x), method),
        share(int(covered_y.sum()), len(y), method),
    )


def _rows(features: NDArray[Any]) -> Floats:
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2:
        raise InputError("features are one vector per image, (n, D)", f"found shape {rows.shape}")
    return rows


def _too_few(features: Any, reference: Any, minimum: int = MINIMUM) -> str:
    """Why there is no value, or "". Sets that cannot be compared at all are an error."""
    if features.shape[1] != reference.shape[1]:
        raise InputError(
            "samples and reference have features of different length",
            f"{features.shape[1]} and {reference.shape[1]}",
            "extract both with the same extractor",
        )
    if len(features) < minimum:
        return f"{len(features)} samples, at least {minimum} are needed"
    if len(reference) < minimum:
        return f"{len(reference)} reference images, at least {minimum} are needed"
    for name, rows in (("samples", features), ("reference", reference)):
        if not math.isfinite(float(rows.sum())):
            return f"features of the {name} are not finite"
    return ""


def _distance(
    value: float, error: float, method: str, n: int, reference_fixed: bool, flags: tuple[str, ...]
) -> Estimate:
    return around(value, error, f"{method}, reference {'fixed' if reference_fixed else 'random'}", n, flags)


def _influence_variance(centred: Floats, shift: Floats, transported: Floats) -> float:
    """Variance of the distance that comes from the rows of one set."""
    n = len(centred)
    of_covariance = ((centred**2).sum(1) - transported) * n / (n - 1)
    return float(np.var(2 * centred @ shift + of_covariance, ddof=1)) / n


def _significant(eigenvalues: NDArray[Any]) -> Floats:
    """Eigenvalues of a positive semi-definite matrix, zero for those that are rounding noise: their roots add up."""
    floor = len(eigenvalues) * np.finfo(np.float64).eps * max(float(eigenvalues[-1]), 0.0)
    return np.where(eigenvalues > floor, eigenvalues, 0.0)


def _factor(sigma: Floats) -> Floats:
    """L with L L^T = sigma: Cholesky, or the eigenvectors if sigma is singular."""
    try:
        root: Floats = np.asarray(np.linalg.cholesky(sigma), np.float64)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(sigma)
        root = np.asarray(vectors * np.sqrt(np.clip(values, 0, None)), np.float64)
    return root


def _transported(xc: Floats, yc: Floats) -> tuple[Floats, float]:
    """d.T d of each centred sample (n,), and tr (S_x S_y)^(1/2).

    With S_y = L L^T and Z = xc L / sqrt(n - 1) = U s V^T, the trace is the sum of s and d_i.T d_i is
    (n - 1) sum_k U_ik^2 s_k. No inverse of a covariance is taken, so a singular one is safe.
    """
    n, m, dimension = len(xc), len(yc), xc.shape[1]
    root = yc.T / math.sqrt(m - 1) if m <= dimension else _factor(yc.T @ yc / (m - 1))  # L, (D, r)
    z = xc @ root / math.sqrt(n - 1)  # (n, r)
    if n <= z.shape[1]:
        values, u = np.linalg.eigh(z @ z.T)
        s = np.sqrt(_significant(values))
        return (n - 1) * (u**2 @ s), float(s.sum())
    values, vectors = np.linalg.eigh(z.T @ z)
    s = np.sqrt(_significant(values))
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=s > 0)
    # U s = Z V, so U^2 s = (Z V)^2 / s
    return (n - 1) * ((z @ vectors) ** 2 @ inverse), float(s.sum())


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over a kernel matrix: of its rows, of its columns, of its squares; `same` leaves out the diagonal."""

    rows: Floats
    columns: Floats
    squares: float


def _kernel(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    base = a @ b.T
    base /= a.shape[1]
    base += 1
    kernel: NDArray[Any] = base * base * base  # ten times as fast as ** 3
    return kernel


def _kernel_sums(a: Floats, b: Floats, *, same: bool) -> _Sums:
    rows, columns, squares = np.zeros(len(a)), np.zeros(len(b)), 0.0
    for start in range(0, len(a), CHUNK):
        kernel = _kernel(a[start : start + CHUNK], b)
        if same:
            index = np.arange(len(kernel))
            kernel[index, start + index] = 0
        rows[start : start + len(kernel)] = kernel.sum(1)
        columns += kernel.sum(0)
        squares += float((kernel**2).sum())
    return _Sums(rows, columns, squares)


def _within(sums: _Sums) -> float:
    """E a2(x, x')^2, unbiased, by U-centring (Szekely and Rizzo, Annals of Statistics 42, 2014)."""
    n, total = len(sums.rows), float(sums.rows.sum())
    squares = sums.squares - 2 / (n - 2) * float((sums.rows**2).sum()) + total**2 / ((n - 1) * (n - 2))
    return max(0.0, squares / (n * (n - 3)))


def _between(sums: _Sums) -> float:
    """E c2(x, y)^2, unbiased: the interaction variance of a two-way table."""
    n, m, total = len(sums.rows), len(sums.columns), float(sums.rows.sum())
    row_part, column_part = float((sums.rows**2).sum()) / m, float((sums.columns**2).sum()) / n
    return max(0.0, (sums.squares - row_part - column_part + total**2 / (n * m)) / ((n - 1) * (m - 1)))
