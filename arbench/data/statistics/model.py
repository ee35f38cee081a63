"""Reference statistics in memory, what makes them valid, and their description for people. Imports no torch."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, counted
from ...npy_files import npy_header, read_member
from .checks import SetIdentity

Floats = NDArray[np.float64]
Format = Literal["adm", "pytorch-fid", "clean-fid", "torch-fidelity", "arbench", "edm2"]
TOLERANCE = 1e-5
"""Of the largest entry: asymmetry and negative eigenvalues up to this are rounding, as of a float32 covariance."""


@dataclass(frozen=True, slots=True)
class StoredMoments:
    """Mean (D,), covariance (D, D; divided by n - 1), float64; `n` is None where the file does not say.

    `cholesky` is the lower factor L of covariance = L L^T, or None: not stored, or the covariance is singular.
    """

    mean: Floats
    covariance: Floats
    n: int | None = None
    cholesky: Floats | None = None


@dataclass(frozen=True, slots=True)
class StoredFeatures:
    """Where features (n, D) lie: a member of an npz, or a torch file."""

    path: Path
    member: str
    n: int
    dimension: int

    def rows(self) -> NDArray[Any]:
        """(n, D) floats: mapped from disk where the file allows it (stored uncompressed), else read into memory."""
        if self.path.suffix == ".pt":
            from .torch_files import load

            return np.asarray(load(self.path).numpy())
        with zipfile.ZipFile(self.path) as archive:
            info = archive.getinfo(f"{self.member}.npy")
            if info.compress_type != zipfile.ZIP_STORED:
                return read_member(archive, info, f"{self.member} of {self.path}")
            with archive.open(info) as file:
                shape, fortran, dtype = npy_header(file)
                header = file.tell()
        with self.path.open("rb") as raw:
            raw.seek(info.header_offset)
            fixed = raw.read(30)  # the local header; its name and extra field may differ from the directory's
        start = (
            info.header_offset + 30 + int.from_bytes(fixed[26:28], "little") + int.from_bytes(fixed[28:30], "little")
        )
        order: Literal["F", "C"] = "F" if fortran else "C"
        return np.memmap(self.path, dtype, mode="r", offset=start + header, shape=shape, order=order)


@dataclass(frozen=True, slots=True)
class ReferenceStatistics:
    """Statistics of a reference set. `moments` and `features` are by "recipe:output", as "inception/tf1:pool3".

    An ADM file of images alone has no moments: they are to be computed from `images`, an npz with `arr_0`.
    `weights` maps weight names to the sha256 of the files used, and `settings` says how the images were prepared; both
    are empty in other tools' files.
    """

    path: Path
    format: Format
    moments: Mapping[str, StoredMoments]
    identity: SetIdentity
    features: Mapping[str, StoredFeatures] = field(default_factory=dict)
    images: Path | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


def valid_moments(
    mean: Any,
    covariance: Any,
    n: int | None,
    path: Path,
    key: str,
    *,
    cholesky: Any = None,
    dimension: int | None = None,
) -> StoredMoments:
    """The moments in float64, symmetric. Raises `InputError` for what can be no mean and covariance."""
    mean, covariance = np.asarray(mean), np.asarray(covariance)
    _require(mean.dtype.kind == "f" and covariance.dtype.kind == "f", path, key, "mean or covariance is not of floats")
    _require(mean.ndim == 1 and len(mean) > 0, path, key, f"the mean has shape {mean.shape}; (D,) is needed")
    size = len(mean)
    if covariance.shape != (size, size):
        _refuse(path, key, f"the mean has {size} entries and the covariance has shape {covariance.shape}")
    if dimension is not None and size != dimension:
        _refuse(path, key, f"it has {size} dimensions and {key} has {dimension}", "use the 2048 features of pool3")
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    _require(bool(np.isfinite(mean).all()), path, key, "the mean has entries that are not finite")
    _require(bool(np.isfinite(covariance).all()), path, key, "the covariance has entries that are not finite")
    largest = float(np.abs(covariance).max())
    asymmetry = float(np.abs(covariance - covariance.T).max())
    _require(asymmetry <= TOLERANCE * largest, path, key, f"the covariance is not symmetric: off by {asymmetry:.3g}")
    if asymmetry:
        covariance = 0.5 * (covariance + covariance.T)
    _require(n is None or n >= 2, path, key, f"a covariance of {n} vectors")
    if cholesky is not None:
        factor = np.asarray(cholesky, dtype=np.float64)
        _require(_is_factor(factor, covariance), path, key, "the stored Cholesky factor is not that of its covariance")
        return StoredMoments(mean, covariance, n, factor)
    _require(positive(covariance), path, key, "the covariance has negative eigenvalues")
    return StoredMoments(mean, covariance, n)


def positive(covariance: Floats) -> bool:
    """Whether no eigenvalue is below minus the tolerance: by a Cholesky factor, 10 times cheaper than eigenvalues."""
    shift = TOLERANCE * float(covariance.diagonal().max(initial=0.0))
    if shift <= 0:
        return not covariance.any()
    try:
        np.linalg.cholesky(covariance + shift * np.eye(len(covariance)))
    except np.linalg.LinAlgError:
        return False
    return True


def cholesky_factor(covariance: Floats) -> Floats | None:
    """Lower L with covariance = L L^T, or None if the covariance is singular to rounding."""
    try:
        factor: Floats = np.asarray(np.linalg.cholesky(covariance), np.float64)
    except np.linalg.LinAlgError:
        return None
    return factor if _is_factor(factor, covariance) else None


def _is_factor(factor: Floats, covariance: Floats) -> bool:
    """Checked on two vectors, in D^2 work: a wrong factor fails unless made to pass."""
    if factor.shape != covariance.shape or not np.isfinite(factor).all() or np.triu(factor, 1).any():
        return False
    probes = np.random.default_rng(0).standard_normal((len(factor), 2))
    expected = covariance @ probes
    error = np.abs(factor @ (factor.T @ probes) - expected).max()
    return bool(error <= 1e-8 * max(float(np.abs(expected).max()), float(np.abs(covariance).max())))


def describe(statistics: ReferenceStatistics) -> list[tuple[str, str]]:
    """What the file is, as (name, value) pairs to print; what is unknown is left out."""
    identity = statistics.identity
    found = [("file", str(statistics.path)), ("format", statistics.format), ("name", identity.name)]
    for key, moments in statistics.moments.items():
        count = counted(moments.n, "image") if moments.n is not None else "number of images not stored"
        factor = ", Cholesky factor cached" if moments.cholesky is not None else ""
        found.append((key, f"{len(moments.mean)} dimensions, {count}{factor}"))
    for key, features in statistics.features.items():
        found.append((f"features {key}", f"{features.n} x {features.dimension}"))
    if statistics.images is not None:
        found.append(("images", str(statistics.images)))
    found += [(name, value) for name, value in identity.facts() if name != "name"]
    found += [(f"weights {name}", digest) for name, digest in statistics.weights.items()]
    found += list(statistics.settings.items())
    return found


def _require(condition: bool, path: Path, key: str, why: str) -> None:
    if not condition:
        _refuse(path, key, why)


def _refuse(path: Path, key: str, why: str, hint: str = "write or copy the file again") -> None:
    raise InputError(f"{path} holds no usable statistics for {key}", why, hint)
