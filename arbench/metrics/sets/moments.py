"""Mean and covariance of vectors, block by block: what Frechet distances need of a set, and all that they need."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, counted
from ..rows import BLOCK, Rows, blocks
from .symmetric import cholesky

Floats = NDArray[np.float64]
MINIMUM = 16
"""Fewer samples than this, on either side, give no value: neither the number nor its interval would mean anything."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean (D,) and covariance (D, D) of n vectors; the covariance is divided by n - `ddof`.

    float64, but for a mean kept in float32: two of these are subtracted in float32, as the tools that keep them do.
    """

    mean: NDArray[np.floating[Any]]
    covariance: Floats
    n: int
    ddof: int = 1

    @property
    def dimension(self) -> int:
        return len(self.mean)

    @property
    def finite(self) -> bool:
        return math.isfinite(float(self.mean.sum()) + float(np.trace(self.covariance)))


class Accumulator:
    """Count, mean (D,) and centred second moment (D, D) of rows that arrive in blocks, in float64.

    Sets add up by `merge` (Chan, Golub and LeVeque, 1979): shards in any order and of any size give the same moments
    to rounding. Each block is centred before it is squared, so that a large mean costs no digits.
    """

    def __init__(self, dimension: int) -> None:
        self.n = 0
        self.mean: Floats = np.zeros(dimension)
        # BLAS adds to one triangle in place, in Fortran's order: half of the work, and no copies
        self._upper: Floats = np.zeros((dimension, dimension), order="F")

    @property
    def scatter(self) -> Floats:
        """(D, D) sum of (x - mean) (x - mean)^T, a new array."""
        full: Floats = self._upper + self._upper.T
        np.fill_diagonal(full, self._upper.diagonal())
        return full

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """All rows, read a block at a time."""
        check_rows(rows)
        accumulator = cls(rows.shape[1])
        for block in blocks(rows):
            accumulator.add(block)
        return accumulator

    @classmethod
    def of_numbers(cls, rows: Rows, numbers: NDArray[np.integer[Any]]) -> Self:
        """The rows with these numbers, read in file order."""
        accumulator = cls(rows.shape[1])
        numbers = np.sort(numbers)
        for start in range(0, len(numbers), BLOCK):
            accumulator.add(rows[numbers[start : start + BLOCK]])
        return accumulator

    def add(self, rows: NDArray[Any]) -> None:
        """Rows (n, D), of any length."""
        from scipy.linalg.blas import dsyrk  # not at the top: suites and pages are read without it

        for start in range(0, len(rows), BLOCK):
            block = np.asarray(rows[start : start + BLOCK], dtype=np.float64)
            if block.ndim != 2 or block.shape[1] != len(self.mean):
                raise InputError(f"rows of length {len(self.mean)} were expected", f"found shape {block.shape}")
            with np.errstate(invalid="ignore"):  # what is not finite shows in the moments
                mean = block.mean(0)
                centred = block - mean
                self._upper = dsyrk(1.0, centred.T, beta=1.0, c=self._upper, overwrite_c=1)
                self._join(len(block), mean)

    def merge(self, other: Accumulator) -> None:
        """Adds the rows that `other` has seen."""
        if other.n:
            self._upper += other._upper
            self._join(other.n, other.mean)

    def _join(self, n: int, mean: Floats) -> None:
        """n more rows about this mean, whose own second moment has been added."""
        from scipy.linalg.blas import dsyr

        total = self.n + n
        shift = mean - self.mean
        if self.n:
            self._upper = dsyr(self.n * n / total, shift, a=self._upper, overwrite_a=1)
        self.mean = self.mean + shift * (n / total)
        self.n = total

    def moments(self, ddof: int = 1) -> Moments:
        if self.n <= ddof or self.n < 2:
            raise InputError("a covariance needs at least two vectors", f"found {self.n}")
        covariance = self.scatter
        covariance /= self.n - ddof
        return Moments(self.mean.copy(), covariance, self.n, ddof)


def merged(accumulators: Iterable[Accumulator]) -> Accumulator:
    """One accumulator over the rows of all; the parts stay as they are."""
    parts = list(accumulators)
    if not parts:
        raise InputError("there is nothing to merge", "no accumulators were given")
    total = Accumulator(len(parts[0].mean))
    for part in parts:
        total.merge(part)
    return total


def moments(rows: Rows, *, ddof: int = 1, float32_mean: bool = False) -> Moments:
    """Moments of all rows. `float32_mean`: the mean as float32 NumPy adds it up, which ADM and torch-fidelity keep."""
    found = Accumulator.of(rows).moments(ddof)
    return replace(found, mean=_float32_mean(rows)) if float32_mean else found


def _float32_mean(rows: Rows) -> NDArray[np.float32]:
    """Row after row added in float32, as `numpy.mean(float32 features, axis=0)` does."""
    total = np.zeros((1, rows.shape[1]), np.float32)
    for start in range(0, len(rows), BLOCK):
        block = np.asarray(rows[start : start + BLOCK], dtype=np.float32)
        total = np.concatenate([total, block]).sum(0, keepdims=True, dtype=np.float32)
    return np.asarray(total[0] / np.float32(len(rows)), np.float32)


@dataclass(frozen=True)
class Factored:
    """The moments of the real images, and the factor L (D, r) of their covariance L L^T, computed once.

    `known_factor` is a factor kept from before (with the reference statistics); it is trusted.
    """

    moments: Moments
    known_factor: Floats | None = None

    @classmethod
    def of(cls, rows: Rows, *, ddof: int = 1, float32_mean: bool = False) -> Self:
        found = moments(rows, ddof=ddof, float32_mean=float32_mean)
        if len(rows) > rows.shape[1]:
            return cls(found)
        # as few columns as rows: smaller and more exact than a factor of a singular matrix
        centred = np.asarray(rows[0 : len(rows)], np.float64)
        centred = centred - centred.mean(0)
        return cls(found, np.ascontiguousarray(centred.T) / math.sqrt(len(rows) - ddof))

    @cached_property
    def factor(self) -> Floats:
        """L with L L^T = covariance: Cholesky (lower), or scaled eigenvectors if the covariance is singular."""
        return self.known_factor if self.known_factor is not None else factor(self.moments.covariance)

    @cached_property
    def definite(self) -> bool:
        """Whether the covariance has an inverse: its factor is a triangle with no zero on the diagonal."""
        root = self.factor
        square = root.shape[0] == root.shape[1]
        return square and bool((root.diagonal() > 0).all()) and not np.triu(root, 1).any()

    def product(self, covariance: Floats) -> Floats:
        """L^T S L (r, r) of another covariance S (D, D); a triangular L halves the work."""
        from scipy.linalg.blas import dtrmm

        root = self.factor
        if not self.definite:
            return np.asarray(root.T @ covariance @ root, np.float64)
        upper = root.T  # Fortran's order, so that BLAS copies nothing; S is its own transpose
        half = dtrmm(1.0, upper, np.array(covariance.T, order="F"), overwrite_b=1)
        return np.asarray(dtrmm(1.0, upper, half, side=1, trans_a=1, overwrite_b=1), np.float64)

    @property
    def dimension(self) -> int:
        return self.moments.dimension


def factor(sigma: Floats) -> Floats:
    """L with L L^T = sigma: Cholesky, or the eigenvectors if sigma is singular."""
    root = cholesky(sigma)
    if root is None:
        values, vectors = np.linalg.eigh(sigma)
        root = np.asarray(vectors * np.sqrt(np.clip(values, 0, None)), np.float64)
    return root


def check_rows(rows: Rows) -> None:
    if len(rows.shape) != 2:
        raise InputError("features are one vector per image, (n, D)", f"found shape {tuple(rows.shape)}")


def too_few(n: int, m: int, minimum: int = MINIMUM) -> str:
    """Why n samples and m references give no value, or ""."""
    if n < minimum:
        return f"{counted(n, 'sample')}, at least {minimum} are needed"
    if m < minimum:
        return f"{m} reference images, at least {minimum} are needed"
    return ""


def same_length(samples: int, reference: int) -> None:
    """Sets whose vectors differ in length cannot be compared at all: an error."""
    if samples != reference:
        raise InputError(
            "samples and reference have features of different length",
            f"{samples} and {reference}",
            "extract both with the same extractor",
        )


NOT_FINITE = "features of the {} are not finite"
