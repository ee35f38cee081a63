"""Precision, recall, density, coverage and AuthPct from one set of nearest-neighbour passes, with error bars.

Three passes serve them all, for every k and every convention: samples with samples, reference with reference (or its
cached radii), samples with reference. All intervals take the reference as it is and cover another draw of samples:

- precision, AuthPct: given the reference each sample is inside or not, independently: Wilson's interval is right.
- density: the mean of independent counts: Student's t.
- recall, coverage: one sample decides for many references, and in recall the samples' own balls vary, so no count is
  binomial. A bootstrap repeats points, which shrinks the balls, and is refused. Leaving a random third of the samples
  out, balls drawn anew, gives the standard error (delete-d jackknife, Shao and Wu, Annals of Statistics 17, 1989; with
  fewer left out it is too large). The interval is never narrower than Wilson's for fixed balls. How often it covers:
  docs/coverage-neighbours.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import InputError
from ..estimate import Estimate, bounded, mean_with_interval, missing, share, student
from ..rows import Rows
from .moments import MINIMUM, NOT_FINITE, same_length, too_few
from .neighbour_passes import Distance, Nearest, Points, across, centre_of, least, nearest_within

SUBSETS = 40
"""Random two-thirds of the samples behind the standard errors of recall and coverage."""
CLOSED, OPEN, SUBSET = 0, 1, 2
"""Columns of what the samples' balls reach: closed, open, then one a subset."""
PAIRS = 100_000
FIRST = 64

Test = Literal["<=", "<"]
Radii = Mapping[int, NDArray[Any]]
"""k -> (n,): distance of each row to its k-th neighbour in its own set, itself not counted (squared for adm)."""


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    precision: Estimate
    recall: Estimate


@dataclass(frozen=True, slots=True)
class DensityCoverage:
    density: Estimate
    coverage: Estimate


def radii(
    rows: Rows, ks: Sequence[int], *, distance: Distance = "float32", device: str = "cpu"
) -> dict[int, NDArray[Any]]:
    """What to store with a reference: for each k, and for 1, the distance of every row to its k-th neighbour.

    Pass it to `Neighbours(reference_radii=...)` with the same distance. Raises InputError where k >= n.
    """
    wanted = sorted({1, *ks})
    if not 1 <= wanted[0] <= wanted[-1] < len(rows):
        raise InputError(
            f"no radius for k = {wanted[-1] if wanted[0] == 1 else wanted[0]}", f"there are {len(rows)} rows"
        )
    points = Points(rows, distance, device, centre_of(rows) if distance == "float32" else None)
    nearest = nearest_within(points, wanted[-1] + 1)
    return {k: nearest.distances[:, k].cpu().numpy().copy() for k in wanted}


class Neighbours:
    """The metrics of `samples` (n, D) against `reference` (m, D), arrays or files on disk.

    `ks` names every k that will be asked for: the passes run once, on the first call, for all of them. O((n + m) k)
    numbers are kept. `reference_radii` are those of `radii`, or a function that tells them for the ks it is asked for,
    once they are needed. Rows of different length raise InputError; too few rows or values that are not finite make
    every metric null with the reason.
    """

    def __init__(
        self,
        samples: Rows,
        reference: Rows,
        ks: Sequence[int] = (3, 5),
        *,
        distance: Distance = "float32",
        device: str = "cpu",
        reference_radii: Radii | Callable[[Sequence[int]], Radii] | None = None,
        seed: int = 0,
    ) -> None:
        if not ks or min(ks) < 1:
            raise InputError("a neighbourhood needs k of at least 1", f"found {list(ks)}")
        for rows in (samples, reference):
            if len(rows.shape) != 2:
                raise InputError("features are one vector per image, (n, D)", f"found shape {tuple(rows.shape)}")
        same_length(samples.shape[1], reference.shape[1])
        self.ks, self.distance, self.seed = tuple(sorted(set(ks))), distance, seed
        self._samples, self._reference, self._device, self._given = samples, reference, device, reference_radii
        if reference_radii is not None and not callable(reference_radii):
            for k in {1, *ks}:
                if k not in reference_radii or len(reference_radii[k]) != len(reference):
                    raise InputError(
                        f"the stored radii do not fit: no {len(reference)} radii for k = {k}",
                        f"found { {key: len(value) for key, value in reference_radii.items()} }",
                        "compute them again with radii()",
                    )

    def precision_recall(self, k: int = 3, test: Test = "<=") -> PrecisionRecall:
        """Improved precision and recall (Kynkaanniemi et al., 2019).

        Precision: share of samples inside a ball of the reference. Recall: share of references inside a ball of the
        samples. A point's ball reaches its k-th neighbour in its own set; "<=" counts its edge, "<" does not.
        """
        if test not in ("<=", "<"):
            raise InputError(f"no test is called {test!r}", "a ball is closed, '<=', or open, '<'")
        if reason := self._reason(k, announced=True):
            return PrecisionRecall(missing(reason, len(self._samples)), missing(reason, len(self._samples)))
        found = self._cross.by_k[k]
        inside = found.slack <= 0 if test == "<=" else found.slack < 0
        reached = found.reached[:, CLOSED if test == "<=" else OPEN]
        return PrecisionRecall(
            share(int(inside.sum()), len(inside), "wilson, reference fixed"),
            _share_of_references(reached, found.reached[:, SUBSET:], len(inside)),
        )

    def density_coverage(self, k: int = 5) -> DensityCoverage:
        """Density and coverage (Naeem et al., 2020), open balls as in prdc.

        Density: mean over samples of the number of reference balls that hold it, over k; it may exceed 1. Coverage:
        share of references whose ball holds a sample.
        """
        if reason := self._reason(k, announced=True):
            return DensityCoverage(missing(reason, len(self._samples)), missing(reason, len(self._samples)))
        found = self._cross.by_k[k]
        counts = found.balls.double().cpu().numpy() / k
        density = bounded(mean_with_interval(counts))
        return DensityCoverage(
            Estimate(density.value, density.low, density.high, "t, reference fixed", density.n, density.flags),
            _share_of_references(found.filled.any(1), found.filled, len(counts)),
        )

    def realism(self, k: int = 3) -> tuple[NDArray[np.float64], Estimate]:
        """The realism score of each sample (n,), and their mean (Kynkaanniemi et al., 2019, equation 3).

        The largest ratio of the radius of a reference's k-neighbour ball to its distance from the sample, over the half
        of the references whose balls are smallest: at least 1 inside one of these, infinite for a copy of a reference.
        """
        if reason := self._reason(k, announced=True):
            return np.full(len(self._samples), np.nan), missing(reason, len(self._samples))
        ratios = self._cross.by_k[k].ratio.double().cpu().numpy()
        values = np.sqrt(ratios) if self.distance == "adm" else ratios  # its distances are squares
        found = bounded(mean_with_interval(values))
        return values, replace(found, method="t, reference fixed" if found.method else "")

    def auth_pct(self) -> Estimate:
        """AuthPct (Alaa et al., 2022, as in dgm-eval), percent: samples that are not near-copies of a training image.

        A sample is authentic if the reference nearest to it is nearer to another reference than to the sample.
        """
        if reason := self._reason(1, announced=False):
            return missing(reason, len(self._samples))
        authentic = self._reference_tensors[1][self._cross.nearest_reference] < self._cross.reference_distance
        part = share(int(authentic.sum()), len(authentic), "wilson, reference fixed")
        value, low, high = _numbers(part)
        return Estimate(100 * value, 100 * low, 100 * high, part.method, part.n)

    def nearest_reference(self) -> NDArray[np.int64] | Estimate:
        """(n,) which row of the reference is nearest to each sample; null with the reason where it cannot be told."""
        if reason := self._reason(1, announced=False):
            return missing(reason, len(self._samples))
        return np.asarray(self._cross.nearest_reference.cpu().numpy(), np.int64)

    def _reason(self, k: int, announced: bool) -> str:
        """Why there is no value, or ""."""
        if announced and k not in self.ks:
            raise InputError(f"k = {k} was not announced", f"the passes are for k in {list(self.ks)}", "name it in ks")
        return too_few(len(self._samples), len(self._reference), max(MINIMUM, k + 2)) or self._broken

    @cached_property
    def _broken(self) -> str:
        for name, points in zip(("samples", "reference"), self._points, strict=True):
            if not points.finite():
                return NOT_FINITE.format(name)
        return ""

    @cached_property
    def _points(self) -> tuple[Points, Points]:
        centre = centre_of(self._reference) if self.distance == "float32" else None
        return (
            Points(self._samples, self.distance, self._device, centre),
            Points(self._reference, self.distance, self._device, centre),
        )

    def _k_possible(self) -> list[int]:
        return [k for k in self.ks if k + 2 <= min(len(self._samples), len(self._reference))]

    @cached_property
    def _reference_tensors(self) -> dict[int, Tensor]:
        ks = {1, *self._k_possible()}
        given = self._given(sorted(ks)) if callable(self._given) else self._given
        found = given or radii(self._reference, sorted(ks), distance=self.distance, device=self._device)
        return {k: torch.as_tensor(np.asarray(found[k]), device=self._device) for k in ks}

    @cached_property
    def _cross(self) -> _Cross:
        samples, reference = self._points
        ks = self._k_possible()
        # with two of three samples left, the k-th that is left is among so many neighbours
        own = nearest_within(samples, 1 + 3 * max(ks, default=1) + 6)
        left = _subsets(len(samples), self.seed).to(own.ids.device)
        return _cross_pass(samples, reference, own, {k: self._reference_tensors[k] for k in ks}, left)


@dataclass(frozen=True, slots=True)
class _OfK:
    """What the pass between samples and reference found for one k."""

    balls: Tensor  # (n,) open reference balls that hold a sample
    slack: Tensor  # (n,) least of distance - radius over reference balls: <= 0 inside a closed ball, < 0 an open one
    ratio: Tensor  # (n,) largest of radius / distance over the half of the references with the smallest radii
    reached: (
        Tensor  # (m, 2 + SUBSETS) reference inside a closed or open ball of the samples, then of those without a third
    )
    filled: Tensor  # (m, SUBSETS) reference ball that holds a sample, of those without a third


@dataclass(frozen=True, slots=True)
class _Cross:
    by_k: dict[int, _OfK]
    reference_distance: Tensor  # (n,) distance of a sample to its nearest reference
    nearest_reference: Tensor  # (n,) which one that is


def _numbers(part: Estimate) -> tuple[float, float, float]:
    if part.value is None or part.low is None or part.high is None:
        raise InputError("a share of nothing", part.reason)
    return part.value, part.low, part.high


def _share_of_references(hits: Tensor, in_subsets: Tensor, n: int) -> Estimate:
    """A share of the references (m,) with the interval of its variation over subsets of the n samples (m, SUBSETS)."""
    fixed = share(int(hits.sum()), len(hits))
    value, lowest, highest = _numbers(fixed)
    left = n - n // 3
    shares = in_subsets.double().mean(0).cpu().numpy()
    half = student(len(shares) - 1) * float(np.sqrt(shares.var(ddof=1) * left / (n - left)))
    low, high = min(lowest, max(0.0, value - half)), max(highest, min(1.0, value + half))
    method = "delete-a-third jackknife, not below wilson, reference fixed"
    return Estimate(value, low, high, method, len(hits))


def _subsets(n: int, seed: int) -> Tensor:
    """(n, SUBSETS) bool: which samples are left when a random third is left out."""
    draw = np.random.default_rng(seed)
    kept = np.ones((n, SUBSETS), dtype=bool)
    for column in range(SUBSETS):
        kept[draw.choice(n, n // 3, replace=False), column] = False
    return torch.from_numpy(kept)


def _subset_radii(own: Nearest, kept: Tensor, k: int) -> Tensor:
    """(n, SUBSETS): a sample's ball among the samples left, -1 where it is itself left out."""
    result = torch.empty(kept.shape, dtype=own.distances.dtype, device=kept.device)
    for column in range(kept.shape[1]):
        here = kept[:, column][own.ids]  # (n, K)
        short = here.cumsum(1) < k + 1  # a sample itself is the first that is left
        place = short.sum(1).clamp_max(own.ids.shape[1] - 1)
        found = own.distances.gather(1, place[:, None])[:, 0]
        result[:, column] = torch.where(kept[:, column], found, -1.0)
    return result


def _cross_pass(samples: Points, reference: Points, own: Nearest, radius: dict[int, Tensor], left: Tensor) -> _Cross:
    """`radius` k -> (m,) of the reference; `left` (n, SUBSETS): which samples are left."""
    n, m, device, kind = len(samples), len(reference), own.ids.device, own.distances.dtype
    reference_distance = torch.full((n,), math.inf, dtype=kind, device=device)
    nearest_reference = torch.zeros(n, dtype=torch.int64, device=device)
    by_k = {
        k: _OfK(
            torch.zeros(n, dtype=torch.int64, device=device),
            torch.full((n,), math.inf, dtype=kind, device=device),
            torch.zeros(n, dtype=kind, device=device),
            torch.zeros((m, SUBSET + SUBSETS), dtype=torch.bool, device=device),
            torch.zeros((m, SUBSETS), dtype=torch.bool, device=device),
        )
        for k in radius
    }
    small = {k: torch.where(r <= r.double().quantile(0.5), r, torch.zeros_like(r)) for k, r in radius.items()}
    subset_radii = {k: _subset_radii(own, left, k) for k in radius}
    # the reference is in the rows: cdist and adm round d(x, y) and d(y, x) differently, and their tools have it there
    for rows, columns, distances in across(reference, samples):
        y, x = rows.rows, columns.rows
        values, which = least(distances)
        nearest_reference[x] = torch.where(values < reference_distance[x], which + y.start, nearest_reference[x])
        reference_distance[x] = torch.minimum(reference_distance[x], values)
        spare, ones = torch.empty_like(distances), distances.new_ones(rows.count)
        for k, found in by_k.items():
            torch.sub(distances, radius[k][y, None], out=spare)
            found.slack[x] = torch.minimum(found.slack[x], spare.amin(0))
            found.balls[x] += (ones @ spare.lt_(0)).long()
            torch.div(small[k][y, None], distances, out=spare)  # 0 / 0 of a copy whose ball is a point is infinite
            found.ratio[x] = torch.maximum(found.ratio[x], spare.nan_to_num_(math.inf, math.inf).amax(0))
        # a few samples first: where balls are huge they settle every reference, and the rest costs nothing
        for some in (slice(0, FIRST), slice(FIRST, columns.count)):
            part = slice(x.start + some.start, x.start + min(some.stop, columns.count))
            _by_pairs(distances[:, some], y, part, by_k, own, radius, subset_radii, left)
    return _Cross(by_k, reference_distance, nearest_reference)


def _by_pairs(
    distances: Tensor,
    y: slice,
    x: slice,
    by_k: dict[int, _OfK],
    own: Nearest,
    radius: dict[int, Tensor],
    subset_radii: dict[int, Tensor],
    left: Tensor,
) -> None:
    """What a reference's neighbours among the samples decide, from the few pairs that are near enough to matter.

    A reference that is settled for all subsets takes no further part, so sets that all lie in each other's balls cost
    little more than others.
    """
    if not by_k:
        return
    unreached = ~torch.stack([found.reached[y].all(1) for found in by_k.values()]).all(0)
    unfilled = ~torch.stack([found.filled[y].all(1) for found in by_k.values()]).all(0)
    farthest = torch.stack([subset_radii[k][x].amax(1) for k in by_k]).amax(0)  # (columns,)
    widest = torch.stack([radius[k][y] for k in by_k]).amax(0).masked_fill(~unfilled, -1)  # (rows,)
    near = (distances <= farthest).logical_and_(unreached[:, None]).logical_or_(distances < widest[:, None])
    pairs = near.nonzero()
    for start in range(0, len(pairs), PAIRS):
        i, j = pairs[start : start + PAIRS].unbind(1)
        apart = distances[i, j][:, None]
        for k, found in by_k.items():
            ball = own.distances[x, k][j][:, None]
            inside = torch.cat([apart <= ball, apart < ball, apart <= subset_radii[k][x][j]], 1)
            _mark(found.reached[y], i, inside)
            _mark(found.filled[y], i, left[x][j] & (apart < radius[k][y][i][:, None]))


def _mark(into: Tensor, rows: Tensor, hits: Tensor) -> None:
    """into[rows] |= hits, where a row may come up many times."""
    counts = torch.zeros(into.shape, dtype=torch.int32, device=into.device)
    into |= counts.index_add_(0, rows, hits.int()) > 0


def precision_recall(samples: Rows, reference: Rows, k: int = 3) -> PrecisionRecall:
    """Precision and recall in the convention of torch-fidelity: closed balls, float32 `torch.cdist`."""
    return Neighbours(samples, reference, (k,), distance="cdist").precision_recall(k)
