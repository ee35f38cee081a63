"""Kernel distances over all pairs with error bars, block by block: KID and CMMD."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..estimate import Estimate, Z, bounded, missing, second_order
from ..rows import Rows, dense
from .moments import NOT_FINITE, Floats, check_rows, same_length, too_few

OUTER, INNER = 4096, 1024
"""Rows and columns of the part of a kernel matrix that is in memory at a time."""

Kernel = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
Kind = Literal["polynomial", "gaussian"]
"""Of KID; of CMMD, on rows scaled to length 1."""


class PairSums(Protocol):
    """Sums of a kernel over all pairs, in products of the rows' own precision, added up in float64."""

    def within(self, rows: Rows, kind: Kind, /) -> Sums:
        """Of one set (n, D) with itself."""
        ...

    def across(self, one: Rows, two: Rows, kind: Kind, /) -> Sums:
        """Of one set (n, D) with another (m, D)."""
        ...


class HostSums:
    """`PairSums` by NumPy."""

    def within(self, rows: Rows, kind: Kind) -> Sums:
        return _within_sums(rows, *KINDS[kind])

    def across(self, one: Rows, two: Rows, kind: Kind) -> Sums:
        return _cross_sums(one, two, *KINDS[kind])


ON_HOST = HostSums()


def kid(
    samples: Rows,
    reference: Rows,
    *,
    reference_fixed: bool = True,
    known: Callable[[], Sums] | None = None,
    sums: PairSums = ON_HOST,
) -> Estimate:
    """The kernel distance over all pairs: the unbiased squared MMD of the kernel (x.y / D + 1)^3.

    No random subsets: this is the quantity that they estimate. The variance is that of a two-sample U-statistic, every
    term estimated without bias from the same kernel matrices: the linear term 4/n Var(a(x) - c(x)), which vanishes
    when the two distributions agree, and the quadratic one 2/(n (n - 1)) E a2^2 (+ 4/(n m) E c2^2), which does not.
    Here a and c are the kernel's means over samples and over references, a2 and c2 what is left of it without them.
    The interval lets the linear term grow with the distance (`Spread`). The value may be below 0. Matrix products are
    taken in the precision of the rows, sums in float64, by `sums`. `known` tells those within the reference, if they
    are at hand; it is asked once both sets are known to be large enough.
    """
    found = _all_sums(samples, reference, "polynomial", sums, known)
    if isinstance(found, Estimate):
        return found
    value = found.distance
    return _interval(found, reference_fixed).around(value, value, _method(reference_fixed), len(samples))


CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0
LARGEST = 5000
"""Rows of a set up to which CMMD's whole matrices, 100 MB each, are held."""


def cmmd(
    samples: Rows,
    reference: Rows,
    *,
    reference_fixed: bool = True,
    known: Callable[[], Sums] | None = None,
    sums: PairSums = ON_HOST,
) -> Estimate:
    """CMMD (Jayasumana et al., CVPR 2024): 1000 times the squared MMD of unit vectors under a Gaussian kernel.

    sigma is 10; the estimate is the biased one, over all pairs with the diagonal, as published. Rows are normalised
    here. The kernel is summed as exp(...) - 1, which cancels in the distance, so that float32 rows lose no digits; the
    published codes take the three means in float32 (`cmmd_float32`). The interval is that of the unbiased
    statistic, which differs from this one by a constant and a factor 1 - 1/n. `known` and `sums` as in `kid`.
    """
    found = _all_sums(samples, reference, "gaussian", sums, known)
    if isinstance(found, Estimate):
        return found
    n, m = len(samples), len(reference)
    value = found.xx.total / n**2 + found.yy.total / m**2 - 2 * found.xy.total / (n * m)
    around = _interval(found, reference_fixed).around(value, found.distance, _method(reference_fixed), n)
    low, high = (None if limit is None else CMMD_SCALE * limit for limit in (around.low, around.high))
    return bounded(replace(around, value=CMMD_SCALE * value, low=low, high=high))


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


KINDS: dict[str, tuple[Kernel, bool]] = {"polynomial": (_polynomial, False), "gaussian": (_gaussian, True)}
"""The kernel, and whether rows are scaled to length 1 before."""


def cmmd_float32(samples: Rows, reference: Rows) -> float | None:
    """CMMD as the published codes compute it: in float32 throughout, whole matrices, the reference first.

    Three means just below 1 are rounded to 6e-8 and scaled by 1000, so the value moves in steps of 1.2e-4. None above
    LARGEST rows a side, where the matrices would not fit.
    """
    if max(len(samples), len(reference)) > LARGEST:
        return None
    import torch

    x, y = (torch.from_numpy(_lengths_of_one(rows)) for rows in (reference, samples))
    of_x, of_y = ((rows @ rows.T).diagonal().clone() for rows in (x, y))
    gamma = 1 / (2 * CMMD_SIGMA**2)

    def mean(a: torch.Tensor, b: torch.Tensor, of_a: torch.Tensor, of_b: torch.Tensor) -> torch.Tensor:
        return torch.exp(-gamma * (-2 * (a @ b.T) + of_a[:, None] + of_b)).mean()

    return float(CMMD_SCALE * (mean(x, x, of_x, of_x) + mean(y, y, of_y, of_y) - 2 * mean(x, y, of_x, of_y)))


def _lengths_of_one(rows: Rows) -> NDArray[np.float32]:
    whole = np.asarray(rows[0 : len(rows)], np.float32)
    return np.asarray(whole / np.linalg.norm(whole, axis=1, keepdims=True), np.float32)


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over a kernel matrix (n, m): of its rows, of its columns, of its squares; without the diagonal if square."""

    rows: Floats
    columns: Floats
    squares: float
    diagonal: float = 0.0
    """Sum of the diagonal, of a square one."""

    @property
    def total(self) -> float:
        return float(self.rows.sum())

    @property
    def trace(self) -> float:
        """Of the kernel's covariance: the mean of the diagonal less that of all other entries."""
        n = len(self.rows)
        return self.diagonal / n - self.total / (n * (n - 1))


@dataclass(frozen=True, slots=True)
class Spread:
    """How a kernel distance scatters: variance `linear` + `quadratic` as estimated at the value.

    A squared distance of d scatters by 4 |sqrt(S) d|^2 / n beside what it does at 0, so where the two sets are alike a
    low value comes with an error that is too small, and the normal interval misses the truth from below: coverage 84 to
    88 % on skewed features. The limits here are the distances t at which the value lies Z standard errors off
    (Wilson's way), with the variance `quadratic` + c (t + `offset`). `offset` makes t the squared distance to the
    reference itself, which is never below 0. c is `even` where the difference lies along all directions by their
    variance, as sampling spreads it, and what `linear` says where that rules.
    """

    linear: float
    quadratic: float
    even: float
    offset: float

    def around(self, value: float, unbiased: float, method: str, n: int) -> Estimate:
        """The interval of `unbiased`, moved to `value`."""
        square = max(unbiased + self.offset, 0.0)
        ruling = self.linear / (self.linear + self.quadratic) if self.linear > 0 else 0.0
        steepest = 20 * self.even
        own = min(self.linear / square, steepest) if square > 0 else steepest
        slope = (1 - ruling) * self.even + ruling * own
        middle = Z**2 * slope / 2
        half = math.sqrt(middle**2 + Z**2 * (self.quadratic + slope * square))
        return Estimate(value, value + middle - half, value + middle + half, method, n)


@dataclass(frozen=True, slots=True)
class AllSums:
    """Within samples, within references, between the two."""

    xx: Sums
    yy: Sums
    xy: Sums

    @property
    def distance(self) -> float:
        """The unbiased squared MMD."""
        n, m = len(self.xx.rows), len(self.yy.rows)
        within = self.xx.total / (n * (n - 1)) + self.yy.total / (m * (m - 1))
        return within - 2 * self.xy.total / (n * m)


def _all_sums(
    samples: Rows, reference: Rows, kind: Kind, sums: PairSums, known: Callable[[], Sums] | None
) -> AllSums | Estimate:
    check_rows(samples)
    check_rows(reference)
    same_length(samples.shape[1], reference.shape[1])
    n = len(samples)
    short = too_few(n, len(reference))
    if short:
        return missing(short, n)
    xx = sums.within(samples, kind)
    if not math.isfinite(xx.total):
        return missing(NOT_FINITE.format("samples"), n)
    yy = known() if known is not None else sums.within(reference, kind)
    if not math.isfinite(yy.total):
        return missing(NOT_FINITE.format("reference"), n)
    return AllSums(xx, yy, sums.across(samples, reference, kind))


def part_of(rows: Rows, start: int, size: int, unit: bool) -> NDArray[Any]:
    """Rows as float32, or as float64 if that is what they are."""
    part = dense(np.asarray(rows[start : start + size]))
    if part.dtype != np.float64:
        part = part.astype(np.float32, copy=False)
    if unit:
        length = np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            part = (part / length[:, None]).astype(part.dtype)
    return part


def _within_sums(rows: Rows, kernel: Kernel, unit: bool) -> Sums:
    """Of the matrix of a set with itself, from its upper half."""
    sums, squares, diagonal = np.zeros(len(rows)), 0.0, 0.0
    for start in range(0, len(rows), OUTER):
        outer = part_of(rows, start, OUTER, unit)
        begin = start
        while begin < len(rows):
            if begin < start + len(outer):  # columns inside this slice: only the rows above and at them
                inner = outer[begin - start : begin - start + INNER]
                above = outer[: begin - start + len(inner)]
            else:
                inner, above = part_of(rows, begin, INNER, unit), outer
            part = kernel(above, inner).astype(np.float64, copy=False)
            corner = part[begin - start :]  # empty unless the diagonal runs through it
            part = part[: begin - start]
            sums[start : start + len(part)] += part.sum(1)
            sums[begin : begin + len(inner)] += part.sum(0)
            squares += 2 * float(np.vdot(part, part))
            if len(corner):
                index = np.arange(len(corner))
                diagonal += float(corner[index, index].sum())
                corner[index, index] = 0
                sums[begin : begin + len(inner)] += corner.sum(1)
                squares += float(np.vdot(corner, corner))
            begin += len(inner)
    return Sums(sums, sums, squares, diagonal)


def _cross_sums(one: Rows, two: Rows, kernel: Kernel, unit: bool) -> Sums:
    rows, columns, squares = np.zeros(len(one)), np.zeros(len(two)), 0.0
    for start in range(0, len(one), OUTER):
        outer = part_of(one, start, OUTER, unit)
        for begin in range(0, len(two), INNER):
            part = kernel(outer, part_of(two, begin, INNER, unit)).astype(np.float64, copy=False)
            rows[start : start + len(outer)] += part.sum(1)
            columns[begin : begin + part.shape[1]] += part.sum(0)
            squares += float(np.vdot(part, part))
    return Sums(rows, columns, squares)


def _interval(sums: AllSums, reference_fixed: bool) -> Spread:
    """Of the two-sample U-statistic; see `kid`."""
    xx, yy, xy = sums.xx, sums.yy, sums.xy
    n, m = len(xx.rows), len(yy.rows)
    pair_x = pairs_within(xx)
    linear_x = float(np.var(xx.rows / (n - 2) - xy.rows / m, ddof=1)) - pair_x / (n - 2)
    even = 4 * pair_x / xx.trace if xx.trace > 0 else 0.0
    if reference_fixed:
        return Spread(4 / n * max(0.0, linear_x), 2 / (n * (n - 1)) * pair_x, even / n, yy.trace / m)
    pair_y, pair_xy = pairs_within(yy), pairs_between(xy)
    linear_y = float(np.var(yy.rows / (m - 2) - xy.columns / n, ddof=1)) - pair_y / (m - 2)
    linear = 4 / n * max(0.0, linear_x - pair_xy / m) + 4 / m * max(0.0, linear_y - pair_xy / n)
    quadratic = 2 / (n * (n - 1)) * pair_x + 2 / (m * (m - 1)) * pair_y + 4 / (n * m) * pair_xy
    return Spread(linear, quadratic, even * (1 / n + 1 / m), 0.0)


def pairs_within(sums: Sums) -> float:
    """E a2(x, x')^2, unbiased, by U-centring (Szekely and Rizzo, Annals of Statistics 42, 2014)."""
    n = len(sums.rows)
    squares = sums.squares - 2 / (n - 2) * float((sums.rows**2).sum()) + sums.total**2 / ((n - 1) * (n - 2))
    return max(0.0, squares / (n * (n - 3)))


def pairs_between(sums: Sums) -> float:
    """E c2(x, y)^2, unbiased: the interaction variance of a two-way table."""
    n, m = len(sums.rows), len(sums.columns)
    row_part, column_part = float((sums.rows**2).sum()) / m, float((sums.columns**2).sum()) / n
    return max(0.0, (sums.squares - row_part - column_part + sums.total**2 / (n * m)) / ((n - 1) * (m - 1)))


def _method(reference_fixed: bool) -> str:
    return f"u-statistic, score, reference {'fixed' if reference_fixed else 'random'}"


# ---- two sets of samples that belong together ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DifferenceParts:
    """The unbiased squared distances of two sets of samples to one reference, and the variance of their difference."""

    first: float
    second: float
    variance: float


@dataclass(frozen=True, slots=True)
class _Beside:
    """Rows of two sets side by side, (n, 2 D)."""

    one: Rows
    two: Rows

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.one), self.one.shape[1] + self.two.shape[1]

    def __len__(self) -> int:
        return len(self.one)

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        return np.concatenate([np.asarray(self.one[index]), np.asarray(self.two[index])], axis=1)


def difference_parts(
    first: Rows, second: Rows, reference: Rows, kind: str, known: Callable[[], Sums] | None = None
) -> DifferenceParts | None:
    """Of sets (n, D) whose rows belong together, under the kernel `kind`; None where a distance has no value.

    The linear and the quadratic part of the variance are taken together: the linear one alone is often estimated below
    0 where both sets are as far from the reference, and 0 in its place makes the whole too large.
    """
    kernel, unit = KINDS[kind]
    n, m, d = len(first), len(reference), first.shape[1]
    if len(second) != n:
        raise InputError("paired sets are of one size", f"found {n} and {len(second)} samples")
    same_length(d, second.shape[1])
    same_length(d, reference.shape[1])
    if too_few(n, m):
        return None

    def apart(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        halves = [
            (_of_length_one(side[:, :d]), _of_length_one(side[:, d:])) if unit else (side[:, :d], side[:, d:])
            for side in (a, b)
        ]
        (a_one, a_two), (b_one, b_two) = halves
        return np.asarray(kernel(dense(a_two), dense(b_two)) - kernel(dense(a_one), dense(b_one)))

    within = _within_sums(_Beside(first, second), apart, unit=False)
    one = _within_sums(first, kernel, unit)
    own = known() if known is not None else _within_sums(reference, kernel, unit)
    across = [_cross_sums(rows, reference, kernel, unit) for rows in (first, second)]
    if not all(math.isfinite(sums.total) for sums in (within, one, own, *across)):
        return None
    real = own.total / (m * (m - 1))
    distance = one.total / (n * (n - 1)) + real - 2 * across[0].total / (n * m)
    difference = within.total / (n * (n - 1)) - 2 * (across[1].total - across[0].total) / (n * m)
    pair = pairs_within(within)
    means = within.rows / (n - 2) - (across[1].rows - across[0].rows) / m
    variance = second_order(4 / n * float(np.var(means, ddof=1)), pair * (4 / (n * (n - 2)) - 2 / (n * (n - 1))))
    return DifferenceParts(distance, distance + difference, variance)


def _of_length_one(rows: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), rows.dtype)
