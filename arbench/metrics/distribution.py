"""Precision and recall of one set of features against another, with error bars."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .estimate import Estimate, missing, share
from .moments import MINIMUM, NOT_FINITE, same_length, too_few

CHUNK = 1024


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    precision: Estimate
    recall: Estimate


def precision_recall(features: NDArray[Any], reference: NDArray[Any], k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al., 2019) as in torch-fidelity: Euclidean, float32, closed balls.

    A point's ball reaches its k-th neighbour within its own set. Precision: share of samples inside a ball of the
    reference. Recall: share of references inside a ball of the samples. The intervals are Wilson's, with the balls
    taken as fixed, so they leave out how the balls themselves vary from draw to draw; they are a lower limit.
    """
    import torch

    x, y = (torch.from_numpy(np.ascontiguousarray(rows, np.float32)) for rows in (features, reference))
    short = _too_few(x, y, max(MINIMUM, k + 2))
    if short:
        return PrecisionRecall(missing(short, len(x)), missing(short, len(x)))

    def radii(points: torch.Tensor) -> torch.Tensor:
        chunks = [torch.cdist(chunk, points).kthvalue(k + 1, dim=1).values for chunk in torch.split(points, CHUNK)]
        return torch.cat(chunks)  # k + 1: a point's nearest neighbour is itself

    radii_x, radii_y = radii(x), radii(y)
    covered_x = torch.zeros(len(x), dtype=torch.bool)
    covered_y = torch.zeros(len(y), dtype=torch.bool)
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        distances = torch.cdist(x[rows], y)  # (c, m)
        covered_x[rows] = (distances <= radii_y).any(1)
        covered_y |= (distances <= radii_x[rows, None]).any(0)
    method = "wilson, balls fixed"
    return PrecisionRecall(
        share(int(covered_x.sum()), len(x), method),
        share(int(covered_y.sum()), len(y), method),
    )


def _too_few(features: Any, reference: Any, minimum: int) -> str:
    """Why there is no value, or ""."""
    same_length(features.shape[1], reference.shape[1])
    short = too_few(len(features), len(reference), minimum)
    if short:
        return short
    for name, rows in (("samples", features), ("reference", reference)):
        if not math.isfinite(float(rows.sum())):
            return NOT_FINITE.format(name)
    return ""
