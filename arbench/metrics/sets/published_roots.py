"""The trace of a covariance root as other tools compute it, where rounding decides its last digits.

With fewer images than dimensions the product of the covariances is singular, and its many eigenvalues that should be 0
come out as rounding noise whose roots add up: to 1e-5 of the distance and more. `frechet` leaves that out. A number
that is to be the same as a tool's own needs the tool's own route. With enough images all routes agree to 1e-10.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from .moments import Floats, Moments

Route = Literal["eigvals", "sqrtm"]
"""eigvals: torch-fidelity and torchmetrics. sqrtm: ADM, pytorch-fid and clean-fid, by scipy.linalg."""
OFFSET = 1e-6
"""Added to both diagonals where the root is not finite, by the tools that take it with SciPy."""


def frechet_distance_by(route: Route, samples: Moments, reference: Moments) -> float | None:
    """The distance by this route, or None where the tool itself gives up (no finite root)."""
    one, two = samples.covariance, reference.covariance
    trace = _eigvals(one, two) if route == "eigvals" else _sqrtm(one, two)
    if trace is None or not np.isfinite(trace):
        return None
    shift = samples.mean - reference.mean
    return float(shift @ shift) + float(np.trace(one)) + float(np.trace(two)) - 2 * trace


def _eigvals(one: Floats, two: Floats) -> float:
    return float(np.sqrt(np.linalg.eigvals(one @ two).astype(np.complex128)).real.sum())


def _sqrtm(one: Floats, two: Floats) -> float | None:
    from scipy.linalg import sqrtm

    root = np.asarray(sqrtm(one @ two))
    if not np.isfinite(root).all():
        offset = OFFSET * np.eye(len(one))
        root = np.asarray(sqrtm((one + offset) @ (two + offset)))
    return float(np.trace(root).real) if np.isfinite(root).all() else None
