"""MIFID: the Frechet distance made worse where samples lie too close to training images (Bai et al., 2021)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..estimate import Estimate, missing
from ..rows import BLOCK, Rows
from .moments import check_rows, same_length

EPSILON = 0.1
TINY = 1e-14


def mean_nearest_cosine(samples: Rows, reference: Rows) -> float:
    """Mean over the reference of 1 - |cosine| to the most similar sample, as torchmetrics has it; nan if none is left.

    Rows that sum to 0 are left out on both sides. Products are in float32.
    """
    check_rows(samples)
    check_rows(reference)
    same_length(samples.shape[1], reference.shape[1])
    total, count = 0.0, 0
    for start in range(0, len(reference), BLOCK):
        real = _units(reference[start : start + BLOCK])
        closest = np.full(len(real), -1.0, np.float32)
        for begin in range(0, len(samples), BLOCK):
            fake = _units(samples[begin : begin + BLOCK])
            if len(fake) and len(real):
                np.maximum(closest, np.abs(real @ fake.T).max(1), out=closest)
        total += float((1.0 - closest.astype(np.float64)).sum())
        count += len(real)
    return total / count if count else float("nan")


def _units(rows: NDArray[Any]) -> NDArray[np.float32]:
    part = np.asarray(rows, np.float32)
    part = part[part.sum(1) != 0]
    return np.asarray(part / np.linalg.norm(part, axis=1, keepdims=True), np.float32)


def mifid(frechet: Estimate, samples: Rows, reference: Rows, *, epsilon: float = EPSILON) -> Estimate:
    """The Frechet distance over `mean_nearest_cosine`, if that is below `epsilon`; otherwise the distance unchanged.

    `frechet` is the distance between the same two sets. A distance below 1e-8 gives 0. The interval is that of the
    distance, with the penalty taken as it is.
    """
    if frechet.value is None:
        return frechet
    distance = mean_nearest_cosine(samples, reference)
    if not np.isfinite(distance):
        return missing("no cosine: features are all zero or not finite", frechet.n)
    penalty = distance + TINY if distance < epsilon else 1.0
    if frechet.value <= 1e-8:
        return replace(frechet, value=0.0, low=None, high=None, method="")
    return replace(
        frechet,
        value=frechet.value / penalty,
        low=None if frechet.low is None else frechet.low / penalty,
        high=None if frechet.high is None else frechet.high / penalty,
        method=f"{frechet.method}, penalty fixed" if frechet.method else "",
        flags=(*frechet.flags, "memorisation") if penalty < 1 else frechet.flags,
    )
