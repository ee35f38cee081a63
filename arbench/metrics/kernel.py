"""Kernel distances with error bars: KID over all pairs or over random subsets, and CMMD; block by block."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .estimate import Estimate, around, missing
from .moments import NOT_FINITE, Floats, check_rows, same_length, too_few
from .rows import Rows

OUTER, INNER = 4096, 1024
"""Rows and columns of the part of a kernel matrix that is in memory at a time."""

Kernel = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


def kid(samples: Rows, reference: Rows, *, reference_fixed: bool = True) -> Estimate:
    """The kernel distance over all pairs: the unbiased squared MMD of the kernel (x.y / D + 1)^3.

    No random subsets: this is the quantity that they estimate. The variance is that of a two-sample U-statistic, every
    term estimated without bias from the same kernel matrices: the linear term 4/n Var(a(x) - c(x)), which vanishes
    when the two distributions agree, and the quadratic one 2/(n (n - 1)) E a2^2 (+ 4/(n m) E c2^2), which does not.
    Here a and c are the kernel's means over samples and over references, a2 and c2 what is left of it without them.
    The value may be below 0. Matrix products are taken in the precision of the rows, sums in float64.
    """
    sums = _all_sums(samples, reference, _polynomial)
    if isinstance(sums, Estimate):
        return sums
    n, m = len(samples), len(reference)
    within = sums.xx.total / (n * (n - 1)) + sums.yy.total / (m * (m - 1))
    value = within - 2 * sums.xy.total / (n * m)
    return _around(value, math.sqrt(_variance(sums, reference_fixed)), n, reference_fixed)


CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0


def cmmd(samples: Rows, reference: Rows, *, reference_fixed: bool = True) -> Estimate:
    """CMMD (Jayasumana et al., CVPR 2024): 1000 times the squared MMD of unit vectors under a Gaussian kernel.

    sigma is 10; the estimate is the biased one, over all pairs with the diagonal, as published. Rows are normalised
    here. The kernel is summed as exp(...) - 1, which cancels in the distance, so that float32 rows lose no digits; the
    published codes take the three means in float32, which costs their value 2e-4. The error bar is that of the unbiased
    statistic, which differs from this one by a constant and a factor 1 - 1/n.
    """
    sums = _all_sums(samples, reference, _gaussian, unit=True)
    if isinstance(sums, Estimate):
        return sums
    n, m = len(samples), len(reference)
    value = sums.xx.total / n**2 + sums.yy.total / m**2 - 2 * sums.xy.total / (n * m)
    error = math.sqrt(_variance(sums, reference_fixed))
    return _around(CMMD_SCALE * value, CMMD_SCALE * error, n, reference_fixed)


@dataclass(frozen=True, slots=True)
class Subsets:
    """How a tool draws its subsets. `shrink`: a smaller set makes smaller subsets; otherwise it is an error there."""

    count: int = 100
    size: int = 1000
    seed: int = 2020
    reference_first: bool = False
    shrink: bool = False
    double: bool = False
    """Kernels and sums in float64; otherwise in float32."""
    by_rows: bool = True
    """Rows of a kernel matrix are added up first, then their sums; otherwise all entries at once (float32 notices)."""


SUBSETS = {
    "torch-fidelity": Subsets(),
    "clean-fid": Subsets(seed=0, shrink=True, by_rows=False),
    "dgm-eval": Subsets(seed=0, reference_first=True, shrink=True, double=True),
    "torchmetrics": Subsets(seed=0, reference_first=True),
}
"""clean-fid and dgm-eval leave the seed to the caller: here as after `numpy.random.seed(0)`. torchmetrics draws its
subsets with torch and without a seed: here with RandomState(0)."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """The mean over parts of the data, and how far the parts scatter (standard deviation, which is no error bar)."""

    estimate: Estimate
    spread: float | None = None
    values: tuple[float, ...] = ()


def kid_subsets(samples: Rows, reference: Rows, subsets: Subsets = SUBSETS["torch-fidelity"]) -> Repeated:
    """The kernel distance as a tool of the field computes it: the mean over random subsets.

    `spread` (ddof 0) is the number that torch-fidelity prints beside the mean; dgm-eval prints its square. The subsets
    overlap, so neither it nor spread / sqrt(count) is an error bar: `kid` estimates the same quantity and has one.
    """
    check_rows(samples)
    check_rows(reference)
    same_length(samples.shape[1], reference.shape[1])
    n, smaller = len(samples), min(len(samples), len(reference))
    size = min(subsets.size, smaller) if subsets.shrink else subsets.size
    short = too_few(n, len(reference)) or (f"{smaller} vectors, and a subset takes {size}" if smaller < size else "")
    if short:
        return Repeated(missing(short, n))
    dtype = np.float64 if subsets.double else np.float32
    draw = np.random.RandomState(subsets.seed)
    pair = (reference, samples) if subsets.reference_first else (samples, reference)
    estimate = _by_rows if subsets.by_rows else _at_once
    values = []
    for _ in range(subsets.count):
        one, two = (np.asarray(rows[draw.choice(len(rows), size, replace=False)], dtype=dtype) for rows in pair)
        values.append(estimate(_cube(one, one), _cube(two, two), _cube(one, two)))
    mean = float(np.mean(values))
    if not math.isfinite(mean):
        return Repeated(missing(NOT_FINITE.format("samples or the reference"), n))
    return Repeated(Estimate(mean, n=n, flags=("no_interval",)), float(np.std(values)), tuple(values))


# In float32 the rounding of sums over a million entries shows in the sixth digit of the distance, so the three below
# add up in the tools' own order.


def _cube(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    kernel: NDArray[Any] = a @ b.T
    kernel *= 1.0 / a.shape[1]
    kernel += 1
    kernel **= 3
    return kernel


def _by_rows(xx: NDArray[Any], yy: NDArray[Any], xy: NDArray[Any]) -> float:
    m = len(xx)
    within = (xx.sum(1) - xx.diagonal()).sum() + (yy.sum(1) - yy.diagonal()).sum()
    return float(within / (m * (m - 1)) - 2 * xy.sum(0).sum() / (m * m))


def _at_once(xx: NDArray[Any], yy: NDArray[Any], xy: NDArray[Any]) -> float:
    m = len(xx)
    within = xx + yy
    return float((within.sum() - within.diagonal().sum()) / (m - 1) - xy.sum() * 2 / m) / m


def _polynomial(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """(x.y / D + 1)^3 - 1: the constant cancels in every distance, and without it float32 keeps more digits."""
    base: NDArray[Any] = a @ b.T
    base /= a.shape[1]
    kernel = base + 3
    kernel *= base
    kernel += 3
    kernel *= base
    return kernel


def _gaussian(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """exp(-|x - y|^2 / (2 sigma^2)) - 1 of unit vectors."""
    kernel: NDArray[Any] = a @ b.T
    kernel -= 1
    kernel /= CMMD_SIGMA**2
    return np.asarray(np.expm1(kernel, out=kernel))


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over a kernel matrix (n, m): of its rows, of its columns, of its squares; without the diagonal if square."""

    rows: Floats
    columns: Floats
    squares: float

    @property
    def total(self) -> float:
        return float(self.rows.sum())


@dataclass(frozen=True, slots=True)
class _AllSums:
    xx: _Sums
    yy: _Sums
    xy: _Sums


def _all_sums(samples: Rows, reference: Rows, kernel: Kernel, unit: bool = False) -> _AllSums | Estimate:
    check_rows(samples)
    check_rows(reference)
    same_length(samples.shape[1], reference.shape[1])
    n = len(samples)
    short = too_few(n, len(reference))
    if short:
        return missing(short, n)
    xx = _within_sums(samples, kernel, unit)
    if not math.isfinite(xx.total):
        return missing(NOT_FINITE.format("samples"), n)
    yy = _within_sums(reference, kernel, unit)
    if not math.isfinite(yy.total):
        return missing(NOT_FINITE.format("reference"), n)
    return _AllSums(xx, yy, _cross_sums(samples, reference, kernel, unit))


def _slice(rows: Rows, start: int, size: int, unit: bool) -> NDArray[Any]:
    """Rows as float32, or as float64 if that is what they are."""
    part = np.asarray(rows[start : start + size])
    if part.dtype != np.float64:
        part = part.astype(np.float32, copy=False)
    if unit:
        length = np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            part = (part / length[:, None]).astype(part.dtype)
    return part


def _within_sums(rows: Rows, kernel: Kernel, unit: bool) -> _Sums:
    """Of the matrix of a set with itself, from its upper half."""
    sums, squares = np.zeros(len(rows)), 0.0
    for start in range(0, len(rows), OUTER):
        outer = _slice(rows, start, OUTER, unit)
        begin = start
        while begin < len(rows):
            if begin < start + len(outer):  # columns inside this slice: only the rows above and at them
                inner = outer[begin - start : begin - start + INNER]
                above = outer[: begin - start + len(inner)]
            else:
                inner, above = _slice(rows, begin, INNER, unit), outer
            part = kernel(above, inner).astype(np.float64, copy=False)
            corner = part[begin - start :]  # empty unless the diagonal runs through it
            part = part[: begin - start]
            sums[start : start + len(part)] += part.sum(1)
            sums[begin : begin + len(inner)] += part.sum(0)
            squares += 2 * float(np.vdot(part, part))
            if len(corner):
                index = np.arange(len(corner))
                corner[index, index] = 0
                sums[begin : begin + len(inner)] += corner.sum(1)
                squares += float(np.vdot(corner, corner))
            begin += len(inner)
    return _Sums(sums, sums, squares)


def _cross_sums(one: Rows, two: Rows, kernel: Kernel, unit: bool) -> _Sums:
    rows, columns, squares = np.zeros(len(one)), np.zeros(len(two)), 0.0
    for start in range(0, len(one), OUTER):
        outer = _slice(one, start, OUTER, unit)
        for begin in range(0, len(two), INNER):
            part = kernel(outer, _slice(two, begin, INNER, unit)).astype(np.float64, copy=False)
            rows[start : start + len(outer)] += part.sum(1)
            columns[begin : begin + part.shape[1]] += part.sum(0)
            squares += float(np.vdot(part, part))
    return _Sums(rows, columns, squares)


def _variance(sums: _AllSums, reference_fixed: bool) -> float:
    """Of the two-sample U-statistic; see `kid`."""
    xx, yy, xy = sums.xx, sums.yy, sums.xy
    n, m = len(xx.rows), len(yy.rows)
    pair_x = _pairs_within(xx)
    linear_x = float(np.var(xx.rows / (n - 2) - xy.rows / m, ddof=1)) - pair_x / (n - 2)
    if reference_fixed:
        return 4 / n * max(0.0, linear_x) + 2 / (n * (n - 1)) * pair_x
    pair_y, pair_xy = _pairs_within(yy), _pairs_between(xy)
    linear_y = float(np.var(yy.rows / (m - 2) - xy.columns / n, ddof=1)) - pair_y / (m - 2)
    linear = 4 / n * max(0.0, linear_x - pair_xy / m) + 4 / m * max(0.0, linear_y - pair_xy / n)
    return linear + 2 / (n * (n - 1)) * pair_x + 2 / (m * (m - 1)) * pair_y + 4 / (n * m) * pair_xy


def _pairs_within(sums: _Sums) -> float:
    """E a2(x, x')^2, unbiased, by U-centring (Szekely and Rizzo, Annals of Statistics 42, 2014)."""
    n = len(sums.rows)
    squares = sums.squares - 2 / (n - 2) * float((sums.rows**2).sum()) + sums.total**2 / ((n - 1) * (n - 2))
    return max(0.0, squares / (n * (n - 3)))


def _pairs_between(sums: _Sums) -> float:
    """E c2(x, y)^2, unbiased: the interaction variance of a two-way table."""
    n, m = len(sums.rows), len(sums.columns)
    row_part, column_part = float((sums.rows**2).sum()) / m, float((sums.columns**2).sum()) / n
    return max(0.0, (sums.squares - row_part - column_part + sums.total**2 / (n * m)) / ((n - 1) * (m - 1)))


def _around(value: float, error: float, n: int, reference_fixed: bool) -> Estimate:
    return around(value, error, f"u-statistic, reference {'fixed' if reference_fixed else 'random'}", n)
