"""What each sample does to a Frechet distance: the exact jackknife of single samples, and the variance that follows.

With S_ref = L L^T and L^T S_x L = V diag(s^2) V^T, leaving out a sample takes a matrix of rank one, z z^T, from
diag(s^2), and the trace of the root changes by an integral over one determinant (`_of_root`): all n distances with a
sample left out come from one eigendecomposition, without an approximation.

That jackknife is too wide (Efron and Stein, Annals of Statistics 9, 1981). To second order the distance is a mean of
influences h plus 1 / n^2 sum_ij q(x_i, x_j), whose variance is Var h / n + 2 E q^2 / n^2; the jackknife counts the last
term twice. It shows where the two sets are alike, or n / D is small. With u the sample in the basis that whitens it and
diagonalises L^T S L, and w_jk = s_j s_k / (s_j + s_k),

    q = d.T d' + 1/2 sum_jk w_jk (u_j u_k - [j = k]) (u'_j u'_k - [j = k]).

E q^2 is measured on the samples themselves, so heavy tails are in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..estimate import heavy_tailed
from ..rows import BLOCK, Rows, blocks
from .moments import Factored, Floats, Moments
from .symmetric import eigenvectors

LARGE, FLOOR = 256, 1e-6
"""From LARGE dimensions on, what the interval needs is in float32, and squares s^2 below FLOOR of the largest count as
FLOOR: that leaves the width as it is to 0.5 % (less where spectra are flatter than 1 / k^2)."""
PAIRS = 4096
"""Samples whose pairs tell E q^2."""
SIGNS = 16
STEP = 0.6
"""Of the quadrature of `_inverse_sums`: its error is some 15 exp(-pi^2 / STEP)."""
MARGIN = 3
"""Steps of a factor e that the quadratures go beyond the smallest and the largest s."""


@dataclass(frozen=True, slots=True)
class Influence:
    """`values` (sizes, n): a - 1 times what a sample adds to the distance of a samples, for every size a.

    `squares` is E q^2 of the quadratic part, `n` the number of samples.
    """

    values: Floats
    squares: float
    n: int

    @property
    def variance(self) -> float:
        """Of the distance at the last size, n; the overshoot can be half of it at most."""
        variance = float(np.var(self.values[-1], ddof=1)) / self.n
        return max(variance / 2, variance - overshoot(self))

    @property
    def heavy(self) -> bool:
        """Whether so few samples decide the distance that its error cannot be told from them."""
        return heavy_tailed(self.values[-1])

    def covariance(self, sizes: NDArray[np.integer[Any]]) -> Floats:
        """(sizes, sizes) of the distances of nested prefixes of these sizes, which `values` are for.

        Prefixes of a <= b samples share a of them: Cov(h_a, h_b) / b + 2 E q^2 / b^2. The second term, of order
        1 / b^2, is all there is where the two sets have one distribution.
        """
        linear = np.atleast_2d(np.cov(self.values)) - 4 * self.squares / self.n
        larger = np.maximum(sizes[:, None], sizes)
        # a negative variance is noise of the subtraction
        least = np.minimum(linear.diagonal(), 0)
        linear = linear - np.minimum(least[:, None], least)
        return np.asarray(linear / larger + 2 * self.squares / larger.astype(np.float64) ** 2, np.float64)


def overshoot(found: Influence) -> float:
    """2 E q^2 / n^2: by how much the variance of a jackknife is too large."""
    return 2 * found.squares / found.n**2


def influence(
    rows: Rows,
    found: Moments,
    real: Factored,
    roots: Floats,
    sizes: Sequence[int] | NDArray[np.integer[Any]] = (),
    product: Floats | None = None,
) -> Influence:
    """Of each of the rows (n, D) with moments `found` on its distance to `real`, in one pass.

    `roots` are the square roots of the eigenvalues of L^T S L. `sizes`: of prefixes, whose own moments are taken to be
    those of all rows; none stands for n alone. `product` is L^T S L, if it is at hand.
    """
    n, basis = found.n, _basis(rows, found, real, product)
    shift = found.mean.astype(np.float64) - real.moments.mean
    wanted = [int(size) for size in sizes] or [n]
    trace, total = float(np.trace(found.covariance)), float(roots.sum())
    values, chosen = np.empty((len(wanted), n)), _chosen(n)
    kept = np.empty((len(chosen), len(basis.roots)), basis.through.dtype if basis.through is not None else np.float64)
    for start, centred in _centred(rows, found.mean):
        part = slice(start, start + len(centred))
        y = basis.of(centred, start)
        here = chosen[(chosen >= start) & (chosen < part.stop)]
        kept[np.searchsorted(chosen, here)] = y[here - start]
        squares, along = np.einsum("ij,ij->i", centred, centred), centred @ shift
        for index, size in enumerate(wanted):
            values[index, part] = _added(size, found, y, basis, squares, along, trace, total)
    return Influence(values, basis.scale * basis.scale * _squares(kept, basis.roots), n)


def _added(
    a: int, found: Moments, y: NDArray[Any], basis: _Basis, squares: Floats, along: Floats, trace: float, total: float
) -> Floats:
    """a - 1 times what a sample adds to a - 1 others, which have the moments of the whole without it.

    `squares` are |d|^2, `along` d.(mean - mean_ref), `trace` and `total` the traces of the covariance and of the root.
    """
    n, ddof = found.n, found.ddof
    less = (n - ddof) / (n - 1 - ddof)  # covariance without the sample: less (S - taken d d^T)
    taken = n / ((n - 1) * (n - ddof))
    shrunk = (a - 1 - ddof) / (a - ddof)  # with it again, at size a: shrunk S_-i + given (d n / (n - 1)) (...)^T
    given = (a - 1) / (a * (a - ddof)) * (n / (n - 1)) ** 2
    without = less * (trace - taken * squares)
    to_mean = 2 * n / (n - 1) * (along - squares / (n - 1)) / a + (n / (n - 1)) ** 2 * squares / a**2
    to_trace = (shrunk - 1) * without + given * squares
    before = math.sqrt(less) * (total + basis.scale * _of_root(y, basis.roots, -taken))
    after = math.sqrt(shrunk * less) * (total + basis.scale * _of_root(y, basis.roots, given / (shrunk * less) - taken))
    return np.asarray((a - 1) * (to_mean + to_trace - 2 * (after - before)), np.float64)


def _of_root(y: NDArray[Any], s: Floats, weight: float) -> Floats:
    """tr (diag(s^2) + weight z z^T)^(1/2) - sum s for each row of y = z / s^(1/2), (n, r).

    tr X^(1/2) is 1 / pi times the integral over m from 0 of log det(1 + X / m^2), and the determinants' ratio is
    1 + weight sum_j z_j^2 / (s_j^2 + m^2). The trapezoidal rule over log m in steps of 1 is exact to 1e-4, its singular
    points being pi / 2 away; beyond its ends the integrand falls by e a step.
    """
    m = np.exp(np.arange(math.log(float(s[0])) - MARGIN, math.log(float(s[-1])) + MARGIN + 1))
    weights = (s[:, None] / (s[:, None] ** 2 + m**2)).astype(y.dtype)
    ratio = np.log1p(np.maximum(weight * (y * y @ weights).astype(np.float64), 1e-12 - 1)) * m
    return np.asarray((ratio.sum(1) + (ratio[:, 0] + ratio[:, -1]) / (math.e - 1)) / math.pi, np.float64)


def _squares(y: NDArray[Any], s: Floats) -> float:
    """E q^2 over pairs of rows of y = u s^(1/2), (m, r), by random signs: E (sum_j +-q(x_i, x_j))^2 = m E q^2.

    sum_jk w_jk u_j u_k u'_j u'_k is sum_jk y_j y_k y'_j y'_k / (s_j + s_k). One set of signs in many dimensions, where
    many directions average out, and SIGNS in few.
    """
    m, half = len(y), 0.5 * float(s.sum())
    inverse = (1 / (s[:, None] + s)).astype(y.dtype)
    lengths = np.einsum("ij,ij->i", y, y).astype(np.float64)
    decays, weights = _inverse_sums(s)
    quadratic = ((y * y) @ decays.astype(y.dtype)).astype(np.float64) ** 2 @ weights
    own = lengths + 0.5 * (quadratic - lengths + half)
    draw, found = np.random.RandomState(0), []
    for _ in range(1 if len(s) >= LARGE else SIGNS):
        signs = np.where(draw.permutation(m) % 2 == 0, 1.0, -1.0).astype(y.dtype)
        form = (y.T @ (y * signs[:, None])) * inverse
        quadratic = np.einsum("ij,ij->i", y @ form, y).astype(np.float64)
        total = float(signs.sum())
        summed = (y @ (y.T @ signs)).astype(np.float64) - signs * own
        summed += 0.5 * (quadratic - 0.5 * lengths * total - 0.5 * float(lengths @ signs) + half * total)
        found.append(float(np.mean(summed**2)) / (m - 1))
    return float(np.mean(found))


def _inverse_sums(s: Floats) -> tuple[Floats, Floats]:
    """E (r, q) and w (q,) with 1 / (s_j + s_k) = sum_q w_q E_jq E_kq, to 1e-6 of each.

    The trapezoidal rule over log u in the integral of exp(-(s_j + s_k) u) du.
    """
    u = np.exp(np.arange(math.log(1e-7 / float(s[-1])), math.log(10 / float(s[0])), STEP))
    return np.exp(-s[:, None] * u), STEP * u


def _chosen(n: int) -> NDArray[np.int64]:
    """The numbers of PAIRS rows, or of all, increasing."""
    if n <= PAIRS:
        return np.arange(n)
    return np.sort(np.random.RandomState(0).choice(n, PAIRS, replace=False)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Basis:
    """`roots` s (r,), increasing and positive, in units of `scale`, and y = z / s^(1/2): `known`, or d @ `through`."""

    roots: Floats
    scale: float
    known: Floats | None = None
    through: NDArray[np.floating[Any]] | None = None

    def of(self, centred: Floats, start: int) -> NDArray[Any]:
        if self.through is None:
            assert self.known is not None
            return self.known[start : start + len(centred)]
        return np.asarray(centred.astype(self.through.dtype, copy=False) @ self.through)


def _basis(rows: Rows, found: Moments, real: Factored, product: Floats | None = None) -> _Basis:
    """No inverse of a covariance is taken, so a singular one is safe. With n <= r all comes from the singular values of
    the n rows times L."""
    root, n = real.factor, found.n  # (D, r)
    if n <= root.shape[1]:
        centred = (np.asarray(rows[0:n], np.float64) - found.mean) @ root
        scale = float(np.sqrt(np.einsum("ij,ij->", centred, centred) / (n - found.ddof))) or 1.0
        # singular values, not the roots of a Gram matrix's eigenvalues: those lose half of the digits
        u, s, _ = np.linalg.svd(centred / (math.sqrt(n - found.ddof) * scale), full_matrices=False)
        s = s[::-1].clip(FLOOR * max(float(s[0]), FLOOR))
        return _Basis(s, scale, known=math.sqrt(n - found.ddof) * u[:, ::-1] * np.sqrt(s))
    product = real.product(found.covariance) if product is None else product
    scale = float(np.sqrt(np.trace(product))) or 1.0
    if len(product) >= LARGE:
        values, vectors = eigenvectors((product / scale**2).astype(np.float32))
        # what is smaller than float32 can tell has no weight in a sum of s, and must not be divided by
        values = values.clip(FLOOR * max(float(values[-1]), FLOOR))
        through = (root / scale).astype(np.float32) @ vectors * values**-0.25
    else:
        values, vectors = np.linalg.eigh(product / scale**2)
        values = values.clip(1e-14 * max(float(values[-1]), FLOOR))
        through = (root / scale) @ vectors * values**-0.25
    return _Basis(np.sqrt(values.astype(np.float64)), scale, through=through)


def _centred(rows: Rows, mean: NDArray[np.floating[Any]]) -> Iterator[tuple[int, Floats]]:
    start = 0
    for block in blocks(rows, BLOCK):
        yield start, block - mean
        start += len(block)
