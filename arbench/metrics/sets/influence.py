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

Where lengths are skewed, a few long samples rule the variance, and most draws have none: their intervals are too narrow
just where their distance is too small. So the variance is not that of the samples but of a smooth law of their lengths:
the longest follow a line of log length against normal scores, as far as the length that one set in forty reaches, and
the exact effect of each stretched sample is computed. A sample's length is q(x, x)^(1/4), by the moments of the others.
Gaussian features keep their width (docs/coverage.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..estimate import second_order
from ..rows import BLOCK, Rows, blocks
from .moments import Factored, Floats, Moments
from .quadratic_part import Pairs, chosen_of
from .symmetric import eigenvectors

LARGE, FLOOR = 256, 1e-6
"""From LARGE dimensions on, what the interval needs is in float32, and squares s^2 below FLOOR of the largest count as
FLOOR: that leaves the width as it is to 0.5 % (less where spectra are flatter than 1 / k^2)."""
SIGNS = 16
"""Sets of signs that tell E q^2 in few dimensions; in many directions one set averages out."""
MARGIN = 3
"""Steps of a factor e that the quadratures go beyond the smallest and the largest s."""
TAIL, LEAST = 0.2, 8
"""The share of longest samples whose lengths are smoothed, and how many there are at least."""
RAISE = 0.5
"""How much steeper the line of k lengths is taken than it was found, in units of k^(-1/2): its error makes intervals
miss more often than it makes them hold."""
NEAR = 0.3
"""How far along the tail, as a share of it, a sample may move to another length."""
COPIES = 20
"""Lengths for each of them: the longest has a probability of 1 / 40 in n samples."""
OUTLIERS, TOO_FEW, UNFIT = 4, 10, 0.01
"""Ratios of the samples' own variance to that under the smooth law, which outliers do not follow: from the first on
their own is taken, from the second on no interval is given, nor below the third, where no line fits the lengths."""
LONGEST = 20
"""Logarithm of the largest stretch: where it is reached, lengths are on no line."""
CHUNK = 1 << 15


@dataclass(frozen=True, slots=True)
class Influence:
    """`values` (sizes, n): a - 1 times what a sample adds to the distance of a samples, for every size a.

    `spread` (sizes, sizes) is their covariance under the smooth law of lengths, `squares` E q^2 of the quadratic part
    under it, `outliers` the variance of the last values over that under this law, `n` the number of samples.
    `signed` (draws, m): sums over j of +-q(x_i, x_j) of the samples that tell E q^2, the signs those of all sets of n.
    Of the last values less their mean, l: `cubes` E l^3 by their skewness and that variance, and `curvature`
    E l l' q / E l^2, the quadratic part along l (`score_interval`).
    """

    values: Floats
    spread: Floats
    squares: float
    outliers: float
    n: int
    signed: Floats
    cubes: float
    curvature: float

    @property
    def variance(self) -> float:
        """Of the distance at the last size, n; the overshoot can be half of it at most."""
        variance = float(self.spread[-1, -1]) / self.n
        return max(variance / 2, variance - overshoot(self))

    @property
    def smoothing(self) -> float:
        """The variance that is taken over that of the samples."""
        return 1.0 if self.outliers > OUTLIERS else 1 / self.outliers

    @property
    def heavy(self) -> bool:
        """Whether so few samples decide the distance, or lengths so unlike a tail, that its error cannot be told."""
        return not UNFIT <= self.outliers <= TOO_FEW

    def apart(self, other: Influence) -> float:
        """The variance of the difference of this distance and that of another set whose samples belong to these one by
        one, both of n samples.

        By the samples themselves, without the smooth law of lengths: that law corrects a distance that is too small
        where its error is too small, and of a difference such draws lie on both sides.
        """
        draws = min(len(self.signed), len(other.signed))
        jackknife = float(np.var(other.values[-1] - self.values[-1], ddof=1)) / self.n
        signed = other.signed[:draws] - self.signed[:draws]
        return second_order(jackknife, 2 * _mean_product(signed, signed) / self.n**2)

    def covariance(self, sizes: NDArray[np.integer[Any]]) -> Floats:
        """(sizes, sizes) of the distances of nested prefixes of these sizes, which `values` are for.

        Prefixes of a <= b samples share a of them: Cov(h_a, h_b) / b + 2 E q^2 / b^2. The second term, of order
        1 / b^2, is all there is where the two sets have one distribution.
        """
        linear = self.spread - 4 * self.squares / self.n
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
    wanted = [int(size) for size in sizes] or [found.n]
    whole, each, pairs = _reduced(rows, found, real, roots, product)
    large = len(pairs.s) >= LARGE
    signed = pairs.signed(1 if large else SIGNS)
    squares = _mean_product(signed, signed)
    values = _added(wanted, whole, each)
    longest, stretch = _tail(each.lengths(whole.nodes, whole.taken))
    body = np.delete(values, longest, axis=1)
    smooth = _added(wanted, whole, each.of(longest), stretch)
    share = np.concatenate([np.ones(body.shape[1]), np.full(smooth.shape[1], 1 / COPIES)])
    plain = np.atleast_2d(np.cov(values))
    spread = np.atleast_2d(np.cov(np.concatenate([body, smooth], axis=1), aweights=share))
    outliers = float(plain[-1, -1] / spread[-1, -1]) if min(plain[-1, -1], spread[-1, -1]) > 0 else 1.0
    away = values[-1] - values[-1].mean()
    cubes, curvature = float(np.mean(away**3)), pairs.curvature(away, 4 if large else 1)
    if outliers > OUTLIERS:
        return Influence(values, plain, squares, outliers, found.n, signed, cubes, curvature)
    cubes /= outliers**1.5  # the samples' skewness: in the smooth law's third moment a few stretched lengths rule
    return Influence(values, spread, squares / outliers, outliers, found.n, signed, cubes, curvature)


@dataclass(frozen=True, slots=True)
class _Reduced:
    """What is kept of n samples d: `forms` (n, nodes), sum_j y_j^2 s_j / (s_j^2 + m^2) at every node m of the
    quadrature; `squares` |d|^2; `along` d.(mean - mean_ref)."""

    forms: NDArray[Any]
    squares: Floats
    along: Floats

    def lengths(self, nodes: Floats, taken: float) -> Floats:
        """(n,) q(x, x)^(1/4): (sum_jk y_j^2 y_k^2 / (s_j + s_k))^(1/4), by the same quadrature, but for a factor."""
        forms = self.forms.astype(np.float64)
        return np.asarray((np.square(forms / np.maximum(1 - taken * forms, 1e-4)) @ nodes) ** 0.25, np.float64)

    def of(self, rows: NDArray[np.int64] | slice) -> _Reduced:
        return _Reduced(self.forms[rows], self.squares[rows], self.along[rows])


@dataclass(frozen=True, slots=True)
class _Whole:
    """All samples' moments, the quadrature's `nodes` in units of `scale`, traces of the covariance and of the root."""

    found: Moments
    nodes: Floats
    scale: float
    trace: float
    total: float

    @property
    def taken(self) -> float:
        """The covariance without a sample d is in proportion to S - taken d d^T."""
        return self.found.n / ((self.found.n - 1) * (self.found.n - self.found.ddof))

    def of_root(self, forms: NDArray[Any], weight: float | Floats) -> Floats:
        return self.total + self.scale * _of_root(forms, self.nodes, weight)


def _reduced(
    rows: Rows, found: Moments, real: Factored, roots: Floats, product: Floats | None = None
) -> tuple[_Whole, _Reduced, Pairs]:
    """All rows in one pass, and those that tell what q is."""
    n, basis = found.n, _basis(rows, found, real, product)
    shift = found.mean.astype(np.float64) - real.moments.mean
    s, chosen = basis.roots, chosen_of(n)
    nodes = np.exp(np.arange(math.log(float(s[0])) - MARGIN, math.log(float(s[-1])) + MARGIN + 1))
    weights = (s[:, None] / (s[:, None] ** 2 + nodes**2)).astype(basis.type)
    kept = np.empty((len(chosen), len(s)), basis.type)
    each = _Reduced(np.empty((n, len(nodes)), basis.type), np.empty(n), np.empty(n))
    for start, centred in _centred(rows, found.mean):
        part = slice(start, start + len(centred))
        y = basis.of(centred, start)
        here = chosen[(chosen >= start) & (chosen < part.stop)]
        kept[np.searchsorted(chosen, here)] = y[here - start]
        each.forms[part] = y * y @ weights
        each.squares[part], each.along[part] = np.einsum("ij,ij->i", centred, centred), centred @ shift
    whole = _Whole(found, nodes, basis.scale, float(np.trace(found.covariance)), float(roots.sum()))
    return whole, each, Pairs(kept, s, chosen, basis.scale)


def _added(sizes: Sequence[int], whole: _Whole, each: _Reduced, stretch: Floats | None = None) -> Floats:
    """(sizes, rows) of a - 1 times what a sample adds to a - 1 others, which have the moments of the whole without it.

    `stretch`: the sample is so many times as far from the mean when it is added as when it was taken away.
    """
    by = np.ones(len(each.squares)) if stretch is None else stretch
    parts = [slice(start, start + CHUNK) for start in range(0, len(by), CHUNK)]
    return np.concatenate([_added_by(sizes, whole, each.of(part), by[part]) for part in parts], axis=1)


def _added_by(sizes: Sequence[int], whole: _Whole, each: _Reduced, stretch: Floats) -> Floats:
    n, ddof = whole.found.n, whole.found.ddof
    less, taken = (n - ddof) / (n - 1 - ddof), whole.taken  # covariance without the sample: less (S - taken d d^T)
    without = less * (whole.trace - taken * each.squares)
    traced = whole.of_root(each.forms, -taken)
    away = stretch + 1 / (n - 1)  # of the mean without it, in units of d
    values = np.empty((len(sizes), len(stretch)))
    for index, a in enumerate(sizes):
        shrunk = (a - 1 - ddof) / (a - ddof)  # with it again, at size a: shrunk S_-i + given d d^T
        given = (a - 1) / (a * (a - ddof)) * away**2
        to_mean = 2 * away * (each.along - each.squares / (n - 1)) / a + away**2 * each.squares / a**2
        to_trace = (shrunk - 1) * without + given * each.squares
        before = math.sqrt(less) * traced
        after = math.sqrt(shrunk * less) * whole.of_root(each.forms, given / (shrunk * less) - taken)
        values[index] = (a - 1) * (to_mean + to_trace - 2 * (after - before))
    return values


def _tail(lengths: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The longest samples, `COPIES` times each, and by what each copy is stretched.

    The new lengths are quantiles, at even steps, of a line through log length against normal scores (the lognormal law
    that fits the tail). Which sample gets which is by rank, moved by up to `NEAR`.
    """
    from scipy.special import ndtri

    n = len(lengths)
    k = min(max(round(TAIL * n), LEAST), n)
    longest = np.argsort(lengths, kind="stable")[n - k :]
    logs = np.log(np.maximum(lengths[longest], np.finfo(np.float64).tiny))
    scores = ndtri((np.arange(n - k, n) + 0.625) / (n + 0.25))
    away = scores - scores.mean()
    slope = float(away @ logs) / float(away @ away)
    rank = np.repeat((np.arange(k) + 0.5) / k, COPIES)
    moved = np.abs(rank + NEAR * np.random.RandomState(0).uniform(-1, 1, len(rank)))
    moved = np.where(moved > 1, 2 - moved, moved)  # reflected at both ends, so that all ranks are as frequent
    place = np.empty(len(rank))
    place[np.argsort(moved, kind="stable")] = (np.arange(len(rank)) + 0.5) / len(rank)
    quantiles = logs.mean() + slope * (1 + RAISE / math.sqrt(k)) * (ndtri(1 - k / n * (1 - place)) - scores.mean())
    return np.repeat(longest, COPIES), np.exp(np.minimum(quantiles - np.repeat(logs, COPIES), LONGEST))


def _of_root(forms: NDArray[Any], nodes: Floats, weight: float | Floats) -> Floats:
    """tr (diag(s^2) + weight z z^T)^(1/2) - sum s for each row z, (n,), by its `forms` (n, nodes).

    tr X^(1/2) is 1 / pi times the integral over m from 0 of log det(1 + X / m^2), and the determinants' ratio is
    1 + weight sum_j z_j^2 / (s_j^2 + m^2). The trapezoidal rule over log m in steps of 1 is exact to 1e-4, its singular
    points being pi / 2 away; beyond its ends the integrand falls by e a step.
    """
    scaled = np.asarray(weight).reshape(-1, 1) * forms.astype(np.float64)
    ratio = np.log1p(np.maximum(scaled, 1e-12 - 1)) * nodes
    return np.asarray((ratio.sum(1) + (ratio[:, 0] + ratio[:, -1]) / (math.e - 1)) / math.pi, np.float64)


def _mean_product(one: Floats, two: Floats) -> float:
    """E q q' over pairs, of signed sums (draws, m) under the same signs: their mean product is (m - 1) E q q'."""
    return float(np.mean(one * two) / (one.shape[1] - 1))


@dataclass(frozen=True, slots=True)
class _Basis:
    """`roots` s (r,), increasing and positive, in units of `scale`, and y = z / s^(1/2): `known`, or d @ `through`."""

    roots: Floats
    scale: float
    known: Floats | None = None
    through: NDArray[np.floating[Any]] | None = None

    @property
    def type(self) -> np.dtype[np.floating[Any]]:
        return np.dtype(np.float64) if self.through is None else self.through.dtype

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
