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
    length of the whole is in closed form. Each level has its own counts. `order` 0: one set of counts a level; 1, 2:
    one for each code, or pair of codes, that goes before in the row of tokens. The first tokens of an image, before
    which there are fewer, have sets of their own. Places without a token (`NO_TOKEN`) take no bits, and neither does
    where a row ends.
    """
    if order < 0:
        raise ValueError(f"order {order} is negative")
    return sum(_length(np.asarray(ids), vocabulary, order) for ids in levels if np.asarray(ids).size)


def _length(ids: NDArray[Any], vocabulary: int, order: int) -> float:
    first = min(order, ids.shape[1])
    total = sum(_given(ids[:, :place], ids[:, place], vocabulary) for place in range(first))
    if ids.shape[1] > order:
        windows = np.lib.stride_tricks.sliding_window_view(ids, order + 1, axis=1).reshape(-1, order + 1)
        total += _given(windows[:, :-1], windows[:, -1], vocabulary)
    return total


def _given(before: NDArray[Any], ids: NDArray[Any], vocabulary: int) -> float:
    """Bits of ids (M,), counts for each row of `before` (M, order)."""
    before, ids = before[ids != NO_TOKEN], ids[ids != NO_TOKEN]
    if not len(ids):
        return 0.0
    context = np.zeros(len(ids), np.int64)
    for column in (*before.T, ids):  # ids last: one number for each context and code
        _, column = np.unique(column, return_inverse=True)
        last, context = context, np.unique(context * (int(column.max()) + 1) + column, return_inverse=True)[1]
    _, start, counts = np.unique(context, return_index=True, return_counts=True)
    return _dirichlet(counts, last[start], vocabulary)


def _dirichlet(counts: NDArray[np.int64], context: NDArray[np.int64], vocabulary: int) -> float:
    """-log2 of prod over contexts G(V/2) / G(n + V/2) prod over codes G(k + 1/2) / G(1/2)."""
    from scipy.special import gammaln

    totals = np.bincount(context, weights=counts)
    totals = totals[totals > 0]
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
