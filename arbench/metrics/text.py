"""How much of a text is read rightly: edit distances over reference characters and words. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .estimate import Estimate, around, bounded, missing


def distances(read: Sequence[str], truth: Sequence[str]) -> NDArray[np.int64]:
    """(n, 4) edits of characters, characters, edits of words, words: Levenshtein's distances and lengths of the truth.

    White space counts as one space, and none at the ends; nothing else is changed (case counts).
    """
    from rapidfuzz.distance import Levenshtein

    rows = []
    for one, other in zip(read, truth, strict=True):
        mine, theirs = one.split(), other.split()
        text, wanted = " ".join(mine), " ".join(theirs)
        edits = Levenshtein.distance(text, wanted)
        rows.append((edits, len(wanted), Levenshtein.distance(mine, theirs), len(theirs)))
    return np.array(rows, np.int64).reshape(-1, 4)


def rate(edits: NDArray[np.int64], lengths: NDArray[np.int64]) -> Estimate:
    """All edits over all of the reference, images as independent (delta method); it can be above 1."""
    total, n = int(lengths.sum()), len(lengths)
    if not total:
        return missing("no text in the reference", n)
    value = float(edits.sum()) / total
    away = (edits - value * lengths) / (total / n)
    if n < 2 or not away.any():  # images that are all alike tell nothing of how far others are from them
        return Estimate(value, n=n, flags=("no_interval",))
    return bounded(around(value, float(away.std(ddof=1)) / math.sqrt(n), "delta, by image", n))
