"""Bits that token ids take under an adaptive code, and how much of the codebook so many images show. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .codes import NO_TOKEN

LN2 = math.log(2)


def adaptive_bits(levels: Sequence[NDArray[Any]], vocabulary: int, order: int) -> float:
    """Bits for all ids, levels of (N, T) each, under Krichevsky and Trofimov's adaptive code (IEEE IT 27, 1981).

    Nothing is known before: a code that has been seen k times among n has probability (k + 1/2) / (n + V / 2), and the
    length of the whole is in closed form. Each level has its own counts. `order` 0: one set of counts a level; 1: one
    for each code that goes before in the row of tokens, the first token of an image having a set of its own. Places
    without a token (`NO_TOKEN`) take no bits, and neither does where a row ends.
    """
    if order not in (0, 1):
        raise ValueError(f"order {order} is neither 0 nor 1")
    return sum(_length(np.asarray(ids), vocabulary, order) for ids in levels if np.asarray(ids).size)


def _length(ids: NDArray[Any], vocabulary: int, order: int) -> float:
    if order == 0:
        _, counts = np.unique(ids[ids != NO_TOKEN], return_counts=True)
        return _dirichlet(counts, np.zeros(len(counts), np.int64), vocabulary)
    _, first = np.unique(ids[:, 0], return_counts=True)
    total = _dirichlet(first, np.zeros(len(first), np.int64), vocabulary)
    if ids.shape[1] > 1:
        pairs = np.stack([ids[:, :-1].ravel(), ids[:, 1:].ravel()])
        pairs, counts = np.unique(pairs[:, pairs[1] != NO_TOKEN], axis=1, return_counts=True)
        _, context = np.unique(pairs[0], return_inverse=True)
        total += _dirichlet(counts, context, vocabulary)
    return total


def _dirichlet(counts: NDArray[np.int64], context: NDArray[np.int64], vocabulary: int) -> float:
    """-log2 of prod over contexts G(V/2) / G(n + V/2) prod over codes G(k + 1/2) / G(1/2)."""
    from scipy.special import gammaln

    totals = np.bincount(context, weights=counts)
    seen = gammaln(counts + 0.5) - gammaln(0.5)
    whole = gammaln(vocabulary / 2) - gammaln(totals + vocabulary / 2)
    return float(-(whole.sum() + seen.sum()) / LN2)


def saturation(ids: NDArray[Any], vocabulary: int) -> list[tuple[int, float]]:
    """(images, share of the codes that they show) for 1, 2, 4, ... and all of the rows of ids (N, T)."""
    n = len(ids)
    points = sorted({*(2**k for k in range(max(n, 1).bit_length()) if 2**k <= n), n} - {0})
    codes, first = np.unique(ids, return_index=True)  # where each code is first seen
    first = first[codes != NO_TOKEN]
    rows = np.sort(first // ids.shape[1]) if ids.size else np.zeros(0, np.int64)
    return [(count, float(np.searchsorted(rows, count)) / vocabulary) for count in points]
