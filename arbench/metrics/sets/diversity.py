"""Vendi score of one set, and MIND, the sliced Wasserstein distance of two: with error bars."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..estimate import Estimate, around, bounded, missing
from ..rows import BLOCK, Rows, blocks
from .moments import NOT_FINITE, Floats, check_rows, same_length, too_few

PROJECTIONS, SEED = 1000, 2020
AT_A_TIME = 200
LARGEST = 5000
"""Samples up to which dgm-eval's own n x n matrix is decomposed."""


def vendi(samples: Rows) -> Estimate:
    """exp of the entropy of the eigenvalues of X X^T / n, rows of X being of length 1 (Friedman and Dieng, 2023).

    The effective number of different samples, between 1 and min(n, D); linear kernel, order 1. With n > D from
    X^T X / n, which has the same eigenvalues other than 0. The interval is the delta method's: with K = X^T X / n, row
    x moves the entropy by (-x^T log(K) x - entropy) / n. It is for the score at this n, which grows with n.
    """
    check_rows(samples)
    n, dimension = samples.shape
    short = too_few(n, n)
    if short:
        return missing(short, n)
    if n > dimension:
        second: Floats = np.zeros((dimension, dimension))
        for block in blocks(samples):
            unit = _unit(block)
            second += unit.T @ unit
        second /= n
    else:
        unit = _unit(np.asarray(samples[0:n], np.float64))
        second = unit @ unit.T / n
    if not math.isfinite(float(second.sum())):
        return missing("features of the samples are not finite, or a row is zero", n)
    values, vectors = np.linalg.eigh(second)
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    values, vectors = values[kept], vectors[:, kept]
    logs = np.log(values)
    entropy = -float(values @ logs)
    if n > dimension:
        surprise = np.concatenate([-((_unit(block) @ vectors) ** 2 @ logs) for block in blocks(samples)])
    else:
        surprise = -n * (vectors**2 @ (values * logs))
    score = math.exp(entropy)
    flags = ("rank_deficient",) if n <= dimension else ()
    return around(score, score * float(np.std(surprise, ddof=1)) / math.sqrt(n), "delta", n, flags)


def vendi_float32(samples: Rows) -> float | None:
    """The score as dgm-eval computes it: all in float32, from the eigenvalues of the n x n matrix that are above 0.

    With n > D that matrix is singular, and the positive half of its rounding noise counts: a few 1e-5 of the score, the
    sixth digit of which changes with the build and the threads of LAPACK. None above LARGEST samples, for its n^3 time.
    """
    if len(samples) > LARGEST:
        return None
    from scipy.linalg import eigvalsh

    rows = np.asarray(samples[0 : len(samples)], np.float32)
    rows = rows / np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    values = eigvalsh(rows @ rows.T / len(rows), overwrite_a=True, check_finite=False)
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def _unit(rows: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float64)


def mind(samples: Rows, reference: Rows, *, projections: int = PROJECTIONS, seed: int = SEED) -> Estimate:
    """MIND (Berthet et al., 2026): 3 D times the mean squared 2-Wasserstein distance over random directions.

    The larger set is cut at random to the size of the smaller; draws are torch's from `seed`, in torch-fidelity's
    order (rows of the samples, rows of the reference, directions), so the number is the same as there. The reference
    taken as it is, the interval is the delta method's: a sample moves the distance along a direction by its
    Kantorovich potential, the integral of 2 (x - T x) with T the optimal map of the line.
    """
    import torch

    check_rows(samples)
    check_rows(reference)
    dimension = samples.shape[1]
    same_length(dimension, reference.shape[1])
    short = too_few(len(samples), len(reference))
    if short:
        return missing(short, len(samples))
    n = min(len(samples), len(reference))
    draw = torch.Generator().manual_seed(seed)
    chosen: list[NDArray[np.int64] | None] = []
    for rows in (samples, reference):
        larger = len(rows) > n
        chosen.append(torch.randperm(len(rows), generator=draw)[:n].numpy() if larger else None)
    directions = torch.randn(projections, dimension, generator=draw, dtype=torch.float32)
    directions /= directions.norm(dim=1, keepdim=True)
    total, potential = 0.0, np.zeros(n)
    for part in torch.split(directions, AT_A_TIME):
        along = part.numpy().T
        x, y = _projected(samples, chosen[0], along), _projected(reference, chosen[1], along)
        order = np.argsort(x, axis=0)
        x = np.take_along_axis(x, order, axis=0)
        gap = x - np.sort(y, axis=0)
        total += float((gap**2).mean(0).sum())
        steps = np.diff(x, axis=0) * (gap[1:] + gap[:-1])  # trapezia of 2 gap
        climbed = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(steps, axis=0)])
        unsorted = np.empty_like(climbed)
        np.put_along_axis(unsorted, order, climbed - climbed.mean(0), axis=0)
        potential += unsorted.sum(1)
    scale = 3 * dimension / projections
    value = scale * total
    if not math.isfinite(value):
        return missing(NOT_FINITE.format("samples or the reference"), len(samples))
    error = scale * float(np.std(potential, ddof=1)) / math.sqrt(n)
    return bounded(around(value, error, "delta, reference fixed", n))


def _projected(rows: Rows, chosen: NDArray[np.int64] | None, along: NDArray[Any]) -> Floats:
    """(n, M) of the chosen rows, products in float32."""
    numbers = np.arange(len(rows)) if chosen is None else np.sort(chosen)
    found = np.empty((len(numbers), along.shape[1]))
    for start in range(0, len(numbers), BLOCK):
        part = numbers[start : start + BLOCK]
        block = rows[int(part[0]) : int(part[-1]) + 1] if chosen is None else rows[part]
        found[start : start + len(part)] = np.asarray(block, np.float32) @ along
    return found
