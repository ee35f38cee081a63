"""Mean and covariance of vectors with the sums on a device: what `moments` gives, to rounding in float64."""

from __future__ import annotations

import numpy as np
import torch

from ...errors import InputError
from ..rows import Rows, blocks
from .moments import Moments, check_rows, moments


def moments_on(rows: Rows, device: str) -> Moments:
    """Moments of all rows (n, D), ddof 1. On a CPU those of `moments`, whose half products BLAS does at less cost."""
    return moments(rows) if torch.device(device).type == "cpu" else summed(rows, torch.device(device))


def summed(rows: Rows, device: torch.device) -> Moments:
    """By torch on any device: each block is centred before it is multiplied, and joined as `Accumulator` joins it."""
    check_rows(rows)
    total, dimension = 0, rows.shape[1]
    mean = torch.zeros(dimension, dtype=torch.float64, device=device)
    scatter = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
    for read in blocks(rows):
        block = torch.tensor(read, device=device)
        own = block.mean(0)
        block -= own
        scatter.addmm_(block.T, block)
        shift, together = own - mean, total + len(block)
        scatter.addr_(shift, shift, alpha=total * len(block) / together)
        mean += shift * (len(block) / together)
        total = together
    if total < 2:
        raise InputError("a covariance needs at least two vectors", f"found {total}")
    covariance = (scatter + scatter.T) / (2 * (total - 1))  # a product may round its two halves differently
    return Moments(mean.cpu().numpy(), np.ascontiguousarray(covariance.cpu().numpy()), total)
