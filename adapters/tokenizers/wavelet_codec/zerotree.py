"""Bit planes of wavelet coefficients as tokens of four codes (Shapiro's embedded zerotrees, IEEE Trans. SP 41, 1993).

From the highest plane down, two passes go over the bands from the coarsest to the finest. The first tells of every
coefficient that was below the threshold so far whether it is still, and with it all those below it in the tree (`ROOT`,
after which the tree is passed over), whether it alone is (`ZERO`), or its sign (`PLUS`, `MINUS`). The second gives one
more bit of those found in planes before (`ZERO` is 0, `PLUS` is 1). Decoding stops where the tokens do, so each prefix
is an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ROOT, PLUS, MINUS, ZERO = range(4)
Bands = list[NDArray[np.float64]]
"""(3 colours x directions, h, w) a band, coarsest first: the averages, then the details of each level, whose trees are
2 x 2 coefficients under each of the level before. The averages have no trees below them."""


def planes(top: int, step: float) -> list[float]:
    """Thresholds from `step` x 2^top down to `step`."""
    return [step * 2.0**plane for plane in range(top, -1, -1)]


def highest(bands: Bands, step: float) -> int:
    """The plane of the largest coefficient."""
    largest = max(float(np.abs(band).max()) for band in bands)
    return max(0, int(np.floor(np.log2(max(largest, step) / step))))


def encode(bands: Bands, top: int, step: float) -> NDArray[np.int64]:
    """The tokens of all planes."""
    sizes, found, tokens = [np.abs(band) for band in bands], [np.zeros(band.shape, bool) for band in bands], []
    for threshold in planes(top, step):
        new = [(size >= threshold) & ~known for size, known in zip(sizes, found, strict=True)]
        below = _below([fresh | known for fresh, known in zip(new, found, strict=True)])
        before = [known.copy() for known in found]
        passed: NDArray[np.bool_] | None = None
        for index, (band, fresh, known) in enumerate(zip(bands, new, found, strict=True)):
            skipped = _skipped(index, band.shape, passed)
            symbols = np.where(below[index], ZERO, ROOT)
            symbols[fresh] = np.where(band[fresh] >= 0, PLUS, MINUS)
            asked = ~skipped & ~known
            tokens.append(symbols[asked])
            passed = skipped | (asked & (symbols == ROOT)) if index else None
            known |= fresh
        for size, known in zip(sizes, before, strict=True):
            tokens.append(np.where(np.floor(size[known] / threshold) % 2 == 1, PLUS, ZERO))
    return np.concatenate(tokens).astype(np.int64)


def decode(tokens: NDArray[np.int64], shapes: Sequence[tuple[int, ...]], top: int, step: float) -> Bands:
    """The coefficients of these tokens, in the middle of what is known of each; those not reached are 0."""
    low = [np.zeros(shape) for shape in shapes]
    width = [np.zeros(shape) for shape in shapes]
    sign = [np.zeros(shape) for shape in shapes]
    reader = _Reader(tokens)
    for threshold in planes(top, step):
        before = [known > 0 for known in width]
        passed: NDArray[np.bool_] | None = None
        for index, shape in enumerate(shapes):
            skipped = _skipped(index, shape, passed)
            asked = ~skipped & ~before[index]
            symbols = np.full(shape, -1)
            symbols[asked] = reader.take(int(asked.sum()))
            fresh = (symbols == PLUS) | (symbols == MINUS)
            low[index][fresh], width[index][fresh] = threshold, threshold
            sign[index][fresh] = np.where(symbols[fresh] == PLUS, 1.0, -1.0)
            passed = skipped | (asked & (symbols == ROOT)) if index else None
        for index, known in enumerate(before):
            bits = reader.take(int(known.sum()))
            there = bits >= 0
            lows, widths = low[index][known], width[index][known]
            lows[there] += np.where(bits[there] == PLUS, threshold, 0.0)
            widths[there] = threshold
            low[index][known], width[index][known] = lows, widths
        if reader.done:
            break
    return [each * (least + wide / 2) for each, least, wide in zip(sign, low, width, strict=True)]


class _Reader:
    """Tokens one pass after the other; -1 for those beyond the end."""

    def __init__(self, tokens: NDArray[np.int64]) -> None:
        self._tokens, self._place = tokens, 0

    def take(self, count: int) -> NDArray[np.int64]:
        found = self._tokens[self._place : self._place + count]
        self._place += count
        return np.concatenate([found, np.full(count - len(found), -1, np.int64)])

    @property
    def done(self) -> bool:
        return self._place >= len(self._tokens)


def _below(significant: list[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
    """Whether any coefficient in the tree below each one is significant."""
    found = [np.zeros(band.shape, bool) for band in significant]
    for index in range(len(significant) - 2, 0, -1):
        under = significant[index + 1] | found[index + 1]
        found[index] = under.reshape(*found[index].shape[:1], found[index].shape[1], 2, found[index].shape[2], 2).any(
            axis=(2, 4)
        )
    return found


def _skipped(index: int, shape: tuple[int, ...], passed: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Which coefficients of a band lie below a root that was told already."""
    if index < 2 or passed is None:
        return np.zeros(shape, bool)
    return passed.repeat(2, axis=1).repeat(2, axis=2)
