"""KID as the tools of the field compute it, to their own digits: the mean over random subsets; with an error bar."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..estimate import Estimate, Repeated, missing
from ..rows import Rows, dense
from .kernel import AllSums, Spread, Sums, pairs_between, pairs_within
from .moments import NOT_FINITE, check_rows, same_length, too_few

SMALLEST = 4
"""Rows of a subset from which its pairs have a variance."""
HELD = 256 * 2**20
"""Bytes of the products of all rows that are held at most."""
LEAST, LONG = 200, 500
"""Rows of a subset and their length from which a product of two rows is worth keeping."""


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


Chosen = tuple[NDArray[Any], NDArray[Any]]
"""Numbers of rows of a subset of either side."""
OfSubset = tuple[float, tuple[float, ...]]
"""The distance within a subset, and the terms of its variance."""


class SubsetSums(Protocol):
    """Sums of KID's kernel in subsets of two sets, in products of float32, or of float64 if `double`."""

    def subsets(self, one: Rows, two: Rows, chosen: Iterator[Chosen], double: bool, /) -> Iterator[AllSums]: ...


def kid_subsets(
    samples: Rows,
    reference: Rows,
    subsets: Subsets = SUBSETS["torch-fidelity"],
    sums: SubsetSums | None = None,
) -> Repeated:
    """The kernel distance as a tool of the field computes it: the mean over random subsets.

    `spread` (ddof 0) is the number that torch-fidelity prints beside the mean; dgm-eval prints its square. The subsets
    overlap, so neither it nor spread / sqrt(count) is an error bar. The error bar here, reference fixed, adds two
    variances: that of the statistic over all pairs, which the subsets estimate (as in `kid`, each term estimated
    without bias in every subset, then averaged), and spread^2 / count for the choice of the subsets.

    Without `sums`, sums are rounded as in the tool; those of a device are float64, of the same subsets.
    """
    check_rows(samples)
    check_rows(reference)
    same_length(samples.shape[1], reference.shape[1])
    n, smaller = len(samples), min(len(samples), len(reference))
    size = min(subsets.size, smaller) if subsets.shrink else subsets.size
    short = too_few(n, len(reference)) or (f"{smaller} vectors, and a subset takes {size}" if smaller < size else "")
    if short:
        return Repeated(missing(short, n))
    pair = (reference, samples) if subsets.reference_first else (samples, reference)
    found = _on_host(pair, size, subsets) if sums is None else _on_device(pair, size, subsets, sums)
    values, terms = zip(*found, strict=True)
    mean = float(np.mean(values) if subsets.by_rows else _running_mean(values, size))
    if not math.isfinite(mean):
        return Repeated(missing(NOT_FINITE.format("samples or the reference"), n))
    spread = float(np.std(values))
    if size < SMALLEST:
        return Repeated(Estimate(mean, n=n, flags=("no_interval",)), spread, values)
    spread_of_all = _spread(np.mean(terms, axis=0), size, n, len(reference), spread**2 / subsets.count)
    method = "u-statistic, score, and choice of subsets, reference fixed"
    return Repeated(spread_of_all.around(mean, mean, method, n), spread, values)


def _drawn(pair: tuple[Rows, Rows], size: int, subsets: Subsets) -> Iterator[Chosen]:
    draw = np.random.RandomState(subsets.seed)
    for _ in range(subsets.count):
        yield draw.choice(len(pair[0]), size, replace=False), draw.choice(len(pair[1]), size, replace=False)


def _on_host(pair: tuple[Rows, Rows], size: int, subsets: Subsets) -> Iterator[OfSubset]:
    """To the tool's own digits."""
    dtype = np.float64 if subsets.double else np.float32
    estimate = _by_rows if subsets.by_rows else _at_once
    xx, yy, xy = kernels = [np.empty((size, size), dtype) for _ in range(3)]
    products = _products_of_all(pair, size, subsets.count, dtype)
    for i, j in _drawn(pair, size, subsets):
        if products is None:
            one, two = (dense(np.asarray(rows[chosen], dtype)) for rows, chosen in zip(pair, (i, j), strict=True))
            _products(one, two, kernels)
        else:
            for whole, rows, columns, kernel in zip(products, (i, j, i), (i, j, j), kernels, strict=True):
                np.take(whole[rows], columns, axis=1, out=kernel)
        for kernel in kernels:
            kernel *= 1.0 / pair[0].shape[1]
            kernel += 1
            kernel **= 3
        value = estimate(xx, yy, xy)
        if size < SMALLEST:
            yield value, ()
        else:
            yield value, _terms(yy, xx, xy.T) if subsets.reference_first else _terms(xx, yy, xy)


def _on_device(pair: tuple[Rows, Rows], size: int, subsets: Subsets, sums: SubsetSums) -> Iterator[OfSubset]:
    """The same from sums in float64."""
    for found in sums.subsets(*pair, _drawn(pair, size, subsets), subsets.double):
        xx, yy, xy = found.xx, found.yy, found.xy
        if subsets.reference_first:
            xx, yy, xy = yy, xx, Sums(xy.columns, xy.rows, xy.squares)
        yield found.distance, _terms_of(xx, xy, xx.trace, yy.trace) if size >= SMALLEST else ()


def _products_of_all(pair: tuple[Rows, Rows], size: int, count: int, dtype: DTypeLike) -> list[NDArray[Any]] | None:
    """Inner products within and between the two whole sets, where that is less work than those of all subsets.

    Only where it changes no digit: BLAS rounds the product of two rows in the same way wherever they stand in large
    matrices on processors with AVX-512, but not on those with AVX2 alone.
    """
    n, m = (len(rows) for rows in pair)
    whole, parts = (n * n + m * m) // 2 + n * m, 2 * count * size**2
    if size < LEAST or pair[0].shape[1] < LONG or 2 * whole > parts or 2 * whole * np.dtype(dtype).itemsize > HELD:
        return None
    one, two = (dense(np.asarray(rows[0 : len(rows)], dtype)) for rows in pair)
    found = [np.empty(shape, dtype) for shape in ((n, n), (m, m), (n, m))]
    _products(one, two, found)
    return found if _as_in_a_subset(one, two, found, size) else None


def _as_in_a_subset(one: NDArray[Any], two: NDArray[Any], whole: list[NDArray[Any]], size: int) -> bool:
    """Whether the products of the last `size` rows in reverse are those in `whole`, to the bit.

    Edges are where BLAS rounds otherwise, and so an edge of either matrix is in the inside of the other.
    """
    i, j = (np.arange(len(rows))[: -size - 1 : -1] for rows in (one, two))
    parts = [np.empty((size, size), one.dtype) for _ in whole]
    _products(one[i], two[j], parts)
    places = ((i, i), (j, j), (i, j))
    return all(np.array_equal(a[np.ix_(*place)], b) for a, b, place in zip(whole, parts, places, strict=True))


# In float32 the rounding of sums over a million entries shows in the fifth digit of the distance, so the three below
# multiply and add up in the tools' own order.


def _products(one: NDArray[Any], two: NDArray[Any], into: list[NDArray[Any]]) -> None:
    for a, b, out in zip((one, two, one), (one, two, two), into, strict=True):
        np.matmul(a, b.T, out=out)


def _by_rows(xx: NDArray[Any], yy: NDArray[Any], xy: NDArray[Any]) -> float:
    m = len(xx)
    within = (xx.sum(1) - xx.diagonal()).sum() + (yy.sum(1) - yy.diagonal()).sum()
    return float(within / (m * (m - 1)) - 2 * xy.sum(0).sum() / (m * m))


def _at_once(xx: NDArray[Any], yy: NDArray[Any], xy: NDArray[Any]) -> float:
    m = len(xx)
    within = xx + yy
    return float((within.sum() - within.diagonal().sum()) / (m - 1) - xy.sum() * 2 / m) / m


def _running_mean(values: Sequence[float], size: int) -> np.floating[Any]:
    """As clean-fid's: size times each value added up in float32, then divided by their number and by size."""
    total = np.float32(0)
    for value in values:
        total += np.float32(value * size)
    return total / np.float32(len(values)) / np.float32(size)


def _terms(within: NDArray[Any], other: NDArray[Any], across: NDArray[Any]) -> tuple[float, ...]:
    """Of one subset: the variance of a sample's mean kernel to samples less that to references, the mean squares of
    what is left of single pairs within and across (a2, c2 of `kid`), and the traces of the kernel's covariance of
    samples and references (`other`). Overwrites `within` and `across` (m, m)."""
    m = len(within)
    traces = [
        float((kernel.trace(dtype=np.float64) - kernel.mean(dtype=np.float64) * m) / (m - 1))
        for kernel in (within, other)
    ]
    # the variances do not see a constant, and without it float32 keeps their digits
    within -= within[0].mean()
    across -= across[0].mean()
    np.fill_diagonal(within, 0)
    return _terms_of(_sums(within), _sums(across), *traces)


def _terms_of(within: Sums, across: Sums, trace: float, other: float) -> tuple[float, ...]:
    m = len(within.rows)
    linear = float(np.var(within.rows / (m - 2) - across.rows / m, ddof=1))
    return linear, pairs_within(within), pairs_between(across), trace, other


def _sums(kernel: NDArray[Any]) -> Sums:
    rows, columns = (kernel.sum(axis).astype(np.float64) for axis in (1, 0))
    return Sums(rows, columns, float(np.einsum("ij,ij->i", kernel, kernel).sum(dtype=np.float64)))


def _spread(terms: NDArray[np.float64], size: int, n: int, m: int, choice: float) -> Spread:
    """Of the U-statistic over all pairs of n samples with m fixed references, from the terms in subsets of `size`.

    `choice` is the variance of the choice of the subsets.
    """
    linear, within, across, trace, other = (float(term) for term in terms)
    # in a subset a sample's means are over few others, and over `size` of the m references
    linear = linear - within / (size - 2) - across * (1 / size - 1 / m)
    even = 4 / n * within / trace if trace > 0 else 0.0
    return Spread(4 / n * max(0.0, linear), 2 / (n * (n - 1)) * within + choice, even, other / m)
