"""The quadratic part q of a Frechet distance, summed over pairs of samples (`influence`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .moments import Floats

PAIRS = 4096
"""Samples whose pairs tell E q^2 and the curvature."""
STEP = 0.6
"""Of the quadrature of `_inverse_sums`: its error is some 15 exp(-pi^2 / STEP)."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """q of the `chosen` samples (m,), by rows of y = u s^(1/2), (m, r), in units of `scale`.

    sum_jk w_jk u_j u_k u'_j u'_k is sum_jk y_j y_k y'_j y'_k / (s_j + s_k).
    """

    y: NDArray[Any]
    s: Floats
    chosen: NDArray[np.int64]
    scale: float

    def signed(self, draws: int) -> Floats:
        """(draws, m) sum over j != i of +-q(x_i, x_j): their mean square is (m - 1) E q^2."""
        draw, m = np.random.RandomState(0), len(self.y)
        return self.sums(np.stack([np.where(draw.permutation(m) % 2 == 0, 1.0, -1.0) for _ in range(draws)]))

    def curvature(self, away: Floats, every: int = 1) -> float:
        """E l l' q / E l^2 over pairs of different samples, of l (n,) with mean 0; q is convex, so never below 0.

        `every`: one in so many of the samples tells it.
        """
        squares = float(np.mean(away**2))
        if squares == 0:
            return 0.0
        few = replace(self, y=self.y[::every], chosen=self.chosen[::every])
        unit, m = away[few.chosen] / math.sqrt(squares), len(few.chosen)
        return max(float(few.sums(unit[None])[0] @ unit) / (m * (m - 1)), 0.0)

    def sums(self, weights: Floats) -> Floats:
        """(draws, m) sum over j != i of weights_j q(x_i, x_j), of `weights` (draws, m)."""
        y, s, half = self.y, self.s, 0.5 * float(self.s.sum())
        inverse = (1 / (s[:, None] + s)).astype(y.dtype)
        lengths = np.einsum("ij,ij->i", y, y).astype(np.float64)
        decays, steps = _inverse_sums(s)
        quadratic = ((y * y) @ decays.astype(y.dtype)).astype(np.float64) ** 2 @ steps
        own = lengths + 0.5 * (quadratic - lengths + half)
        found = []
        for each in weights:
            by = each.astype(y.dtype)
            form = (y.T @ (y * by[:, None])) * inverse
            quadratic = np.einsum("ij,ij->i", y @ form, y).astype(np.float64)
            total = float(each.sum())
            summed = (y @ (y.T @ by)).astype(np.float64) - each * own
            summed += 0.5 * (quadratic - 0.5 * lengths * total - 0.5 * float(lengths @ each) + half * total)
            found.append(self.scale * summed)
        return np.stack(found)


def _inverse_sums(s: Floats) -> tuple[Floats, Floats]:
    """E (r, q) and w (q,) with 1 / (s_j + s_k) = sum_q w_q E_jq E_kq, to 1e-6 of each.

    The trapezoidal rule over log u in the integral of exp(-(s_j + s_k) u) du.
    """
    u = np.exp(np.arange(math.log(1e-7 / float(s[-1])), math.log(10 / float(s[0])), STEP))
    return np.exp(-s[:, None] * u), STEP * u


def chosen_of(n: int) -> NDArray[np.int64]:
    """The numbers of PAIRS rows, or of all, increasing."""
    if n <= PAIRS:
        return np.arange(n)
    return np.sort(np.random.RandomState(0).choice(n, PAIRS, replace=False)).astype(np.int64)
