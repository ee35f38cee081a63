"""The reference side: features of images, a file of statistics, or both, asked for by "recipe:output"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.statistics.checks import SetIdentity
from ..data.statistics.kept import Kept
from ..data.statistics.model import ReferenceStatistics
from ..features.feature_set import Features
from ..metrics.rows import Rows
from ..metrics.sets.device_kernel import pair_sums
from ..metrics.sets.kernel import Kind, Sums
from ..metrics.sets.moments import Factored, Moments
from ..metrics.sets.neighbour_passes import Distance
from ..metrics.sets.neighbours import Radii, radii
from ..spec.result import ReferenceSet
from .computed import Arrays, kept

Chosen = NDArray[np.int64] | None


@dataclass(slots=True)
class KnownReference:
    """What is known of the real images. Statistics go before features: they may be of far more images."""

    name: str
    sets: Mapping[str, Features]
    statistics: ReferenceStatistics | None = None
    identity: SetIdentity = field(default_factory=SetIdentity)
    kept: Kept | None = None
    """Where the statistics are published ones, named by the user."""
    _factored: dict[str, Factored] = field(default_factory=dict)

    @property
    def named(self) -> ReferenceSet:
        """Its name and digest, as every number against it carries them."""
        return ReferenceSet(name=self.name, digest=self.digest)

    @property
    def digest(self) -> str:
        return self.kept.sha256 if self.kept is not None else self.identity.digest

    def rows(self, output: str) -> Rows | None:
        """Vectors of the images, or None where only moments are known."""
        recipe = output.partition(":")[0]
        if recipe in self.sets:
            return self.sets[recipe].rows(output)
        if self.statistics is not None and output in self.statistics.features:
            return self.statistics.features[output].rows()
        return None

    def moments(self, output: str) -> Factored | None:
        """Moments with their factor, computed once; None where neither moments nor images are known."""
        if output not in self._factored:
            stored = self.statistics.moments.get(output) if self.statistics else None
            rows = self.rows(output)
            if stored is not None:
                # a file that does not say its n is of a whole data set; 0 would read as too few
                n = stored.n if stored.n is not None else 10 * len(stored.mean) + 1
                self._factored[output] = Factored(Moments(stored.mean, stored.covariance, n), stored.cholesky)
            elif rows is not None:
                self._factored[output] = kept(
                    self._set(output), output, "moments", {}, "cpu", lambda: _of_moments(Factored.of(rows)), _moments
                )
            else:
                return None
        return self._factored[output]

    def kernel_sums(self, output: str, kernel: Kind, device: str) -> Sums | None:
        """Sums of the kernel over all pairs of images; None where their vectors are not known."""
        rows = self.rows(output)
        if rows is None:
            return None
        return kept(
            self._set(output),
            output,
            "kernel",
            {"kernel": kernel},
            device,
            lambda: _of_sums(pair_sums(device).within(rows, kernel)),
            _sums,
        )

    def radii(self, output: str, ks: Sequence[int], distance: Distance, device: str, chosen: Chosen = None) -> Radii:
        """For each k the distance of every image to its k-th neighbour, of the images with the numbers `chosen`."""
        rows = self.rows(output)
        assert rows is not None
        taken = rows if chosen is None else rows[chosen]
        settings = {"ks": sorted({1, *ks}), "distance": distance, "chosen": None if chosen is None else chosen.tolist()}
        return kept(
            self._set(output),
            output,
            "radii",
            settings,
            device,
            lambda: {str(k): each for k, each in radii(taken, ks, distance=distance, device=device).items()},
            lambda arrays: {k: arrays[str(k)] for k in (1, *ks)},
        )

    def _set(self, output: str) -> Features | None:
        """The features that `rows` are of, if they are a set."""
        return self.sets.get(output.partition(":")[0])

    def labels(self, recipe: str) -> NDArray[np.int64] | None:
        return self.sets[recipe].labels if recipe in self.sets else None

    def why_no_rows(self, output: str) -> str:
        if self.statistics is not None:
            return f"{Path(self.statistics.path).name} holds moments of {output}, and this needs the images"
        return f"no features of the reference for {output}"

    def why_no_moments(self, output: str) -> str:
        if self.statistics is None:
            return f"no features of the reference for {output}"
        held = ", ".join(self.statistics.moments) or "none"
        return f"{Path(self.statistics.path).name} holds moments of {held}, not of {output}"


# ---- as arrays on disk -----------------------------------------------------------------------------------------------


def _of_moments(found: Factored) -> Arrays:
    arrays = {"mean": found.moments.mean, "covariance": found.moments.covariance, "n": np.array(found.moments.n)}
    return {**arrays, "factor": found.factor} if found.moments.finite else arrays


def _moments(arrays: Arrays) -> Factored:
    found = Moments(arrays["mean"], arrays["covariance"], int(arrays["n"]))
    return Factored(found, arrays.get("factor"))


def _of_sums(found: Sums) -> Arrays:
    return {"rows": found.rows, "squares": np.array(found.squares), "diagonal": np.array(found.diagonal)}


def _sums(arrays: Arrays) -> Sums:
    rows = arrays["rows"]
    return Sums(rows, rows, float(arrays["squares"]), float(arrays["diagonal"]))
