"""The nearest vector of a reference to each sample: which samples lie furthest from everything real."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..rows import BLOCK, Rows, blocks


def nearest(samples: Rows, reference: Rows) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of each sample (n, D) the Euclidean distance to the nearest row of the reference (m, D), and which one that is:
    (n,) and (n,). Of several at one distance the first. Float64 throughout.
    """
    found, rows = np.full(len(samples), np.inf), np.zeros(len(samples), np.int64)
    for place, real in enumerate(blocks(reference)):
        lengths = np.einsum("ij,ij->i", real, real)
        for start, own in zip(range(0, len(samples), BLOCK), blocks(samples), strict=True):
            squared = np.einsum("ij,ij->i", own, own)[:, None] + lengths - 2 * own @ real.T
            best = squared.argmin(1)
            least = squared[np.arange(len(own)), best]
            part = slice(start, start + len(own))
            nearer = least < found[part]
            found[part] = np.where(nearer, least, found[part])
            rows[part] = np.where(nearer, best + place * BLOCK, rows[part])
    return np.sqrt(found.clip(0)), rows
