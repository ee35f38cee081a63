"""The trace of a covariance root as other tools compute it, where rounding decides its last digits.

With fewer images than dimensions the product of the covariances is singular, and its many eigenvalues that should be 0
come out as rounding noise whose roots add up: to 1e-5 of the distance and more. `frechet` leaves that out. A number
that is to be the same as a tool's own needs the tool's own route. With enough images all routes agree to 1e-10.
The order of the two factors, and whether covariances come from centred rows, matter no more than 1e-8.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from .moments import Floats, Moments

Route = Literal["eigvals", "sqrtm", "sqrtm-plain", "sqrtm-diagonal"]
"""eigvals: torch-fidelity and torchmetrics, the real parts of the roots of the product's eigenvalues.

The others take scipy.linalg.sqrtm of the product, and differ in what they do where it is not finite. sqrtm: ADM,
pytorch-fid, clean-fid, dgm-eval and what uses these (LlamaGen, SEED-Voken, LightningDiT) try again with `OFFSET` on
both diagonals. sqrtm-plain: EDM2, no second try. sqrtm-diagonal: 1d-tokenizer and MaskBit take the diagonals alone."""
OFFSET = 1e-6
"""Added to both diagonals where the root is not finite, by the tools that take it with SciPy."""
IMAGINARY = 1e-3
"""The largest imaginary part on the root's diagonal that these tools accept (EDM2 does not look)."""


def frechet_distance_by(route: Route, samples: Moments, reference: Moments) -> float | None:
    """The distance by this route, or None where the tool itself gives up (no finite root, or a complex one)."""
    one, two = samples.covariance, reference.covariance
    trace = _eigvals(one, two) if route == "eigvals" else _sqrtm(one, two, route)
    if trace is None or not np.isfinite(trace):
        return None
    shift = samples.mean - reference.mean
    return float(shift @ shift) + float(np.trace(one)) + float(np.trace(two)) - 2 * trace


def _eigvals(one: Floats, two: Floats) -> float:
    return float(np.sqrt(np.linalg.eigvals(one @ two).astype(np.complex128)).real.sum())


def _root(product: Floats) -> Floats:
    """SciPy warns of a singular product, which a flag of the number says already."""
    from scipy.linalg import LinAlgWarning, sqrtm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        return np.asarray(sqrtm(product))


def _sqrtm(one: Floats, two: Floats, route: Route) -> float | None:
    root = _root(one @ two)
    if not np.isfinite(root).all():
        if route == "sqrtm-plain":
            return None
        if route == "sqrtm-diagonal":
            return float(np.sqrt(one.diagonal() * two.diagonal()).sum())
        offset = OFFSET * np.eye(len(one))
        root = _root((one + offset) @ (two + offset))
        if not np.isfinite(root).all():
            return None
    diagonal = root.diagonal()
    if route != "sqrtm-plain" and np.abs(diagonal.imag).max() > IMAGINARY:
        return None
    return float(diagonal.real.sum())
