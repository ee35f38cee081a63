"""From the values of image pairs to the value of the corpus, with its interval, in parts that can be merged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ...errors import InputError
from ..estimate import Estimate, missing, share, student
from .paired import PairedMetric, find
from .ssim import RANGE


@dataclass(frozen=True, slots=True)
class PairedSum:
    """What the corpus value of a metric needs of any number of images; sums over parts of them can be merged.

    With e_i the value of image i times its weight w_i, the corpus value is R = sum e / sum w, or a function of it, and
    its variance that of a ratio of means, sum (e_i - R w_i)^2 / (n (n - 1)) / mean(w)^2 (Cochran, Sampling Techniques,
    6.4). All weights are 1 but those of pooled metrics, which are the numbers of pixels.
    """

    name: str
    n: int = 0
    bad: int = 0
    """Images without a value (NaN)."""
    mean: tuple[float, float] = (0.0, 0.0)
    """Of e and w."""
    scatter: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Sums of squares and products about the means: ee, ew, ww."""

    def add(self, values: ArrayLike, pixels: ArrayLike = 1.0) -> Self:
        """With the values (N,) of more images; `pixels` of each image matter for pooled metrics only."""
        array = np.asarray(values, np.float64).reshape(-1)
        pooled = find(self.name).reduction == "pooled-db"
        weights = np.broadcast_to(np.asarray(pixels if pooled else 1.0, np.float64), array.shape)
        good = np.isfinite(array)
        e, w = array[good] * weights[good], weights[good]
        if not len(e):
            return self._merged(0, int((~good).sum()), (0.0, 0.0), (0.0, 0.0, 0.0))
        mean = (float(e.mean()), float(w.mean()))
        de, dw = e - mean[0], w - mean[1]
        scatter = (float(de @ de), float(de @ dw), float(dw @ dw))
        return self._merged(len(e), int((~good).sum()), mean, scatter)

    def merge(self, other: PairedSum) -> Self:
        if other.name != self.name:
            raise InputError("only sums of one metric can be merged", f"these are of {self.name} and {other.name}")
        return self._merged(other.n, other.bad, other.mean, other.scatter)

    def _merged(self, n: int, bad: int, mean: tuple[float, float], scatter: tuple[float, float, float]) -> Self:
        """By Chan's update (Chan, Golub and LeVeque, 1979)."""
        total = self.n + n
        share = n / total if total else 0.0
        de, dw = mean[0] - self.mean[0], mean[1] - self.mean[1]
        between = self.n * share
        cross = (de * de * between, de * dw * between, dw * dw * between)
        ee, ew, ww = (mine + theirs + extra for mine, theirs, extra in zip(self.scatter, scatter, cross, strict=True))
        joined = (self.mean[0] + de * share, self.mean[1] + dw * share)
        return type(self)(self.name, total, self.bad + bad, joined, (ee, ew, ww))

    def estimate(self) -> Estimate:
        """The corpus value with its 95 % interval, or no value if any image lacks one."""
        metric = find(self.name)
        if not self.n + self.bad:
            return missing("no values")
        if self.bad:
            reason = f"{metric.name} needs sides of at least {metric.smallest}: {self.bad} images have no value"
            return missing(reason, self.n + self.bad)
        ratio = self.mean[0] / self.mean[1]
        if metric.reduction == "share":
            return share(round(ratio * self.n), self.n)
        if metric.reduction == "pooled-db" and not ratio:
            return missing("all pairs are identical: the PSNR is infinite", self.n)
        return self._interval(metric, ratio)

    def _interval(self, metric: PairedMetric, ratio: float) -> Estimate:
        pooled = metric.reduction == "pooled-db"
        value = 10 * math.log10(RANGE**2 / ratio) if pooled else ratio
        if self.n == 1:
            return Estimate(value, n=1, flags=(*metric.flags, "no_interval"))
        ee, ew, ww = self.scatter
        squares = max(ee - 2 * ratio * ew + ratio * ratio * ww, 0.0)
        error = math.sqrt(squares / (self.n * (self.n - 1))) / self.mean[1]
        if pooled:
            error *= 10 / math.log(10) / ratio  # the derivative of 10 log10
        half = student(self.n - 1) * error
        return Estimate(value, value - half, value + half, "delta" if pooled else "t", self.n, metric.flags)


def corpus(name: str, values: ArrayLike | PairedSum, pixels: ArrayLike = 1.0) -> Estimate:
    """The corpus value of a metric from its per-image values (N,) or from a `PairedSum`.

    `pixels` per image matter where a pooled metric is taken over images of different sizes.
    """
    total = values if isinstance(values, PairedSum) else PairedSum(find(name).name).add(values, pixels)
    if total.name != name:
        raise InputError(f"these are sums of {total.name}, not of {name}")
    return total.estimate()
