"""The statistics of a gate: a prediction interval over the nights before, and the ratio of two builds run in turn.

Everything is on logarithms, over the last axis, so that a thousand nights are decided at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEAST, MOST = 8, 30
"""Nights that a prediction interval needs, and the latest that it is of."""
SCREEN, LEVEL = 0.98, 0.99
"""One-sided, of a slower and of a faster night each: of the prediction interval, which only makes a number suspect, and
of what confirms it."""
FLOOR = 0.002
"""The least spread between nights: what a few equal readings say of it is too little."""
PROVISIONAL = 0.05
"""With fewer nights: beyond this share of the baseline a number is suspect."""
UNSTABLE = 0.08
"""Where nights lie further apart than this (robust standard deviation), a number is reported and not gated."""
EFFECT = {"speed": 0.02, "memory": 0.01}
"""The least change that counts, by measure."""
ROUNDS, MORE = 7, 15
"""Rounds of two builds in turn, and up to how many where these do not decide."""
NORMAL = 1.4826
"""Median absolute deviation -> standard deviation of a normal distribution."""

Decision = Literal["slower", "same", "open"]


@dataclass(frozen=True)
class Band:
    """What the next night of an unchanged build is predicted to read, as factors of `middle`. Arrays (...,)."""

    middle: Floats
    low: Floats
    high: Floats
    spread: Floats

    def beyond(self, value: ArrayLike, effect: float) -> NDArray[np.int64]:
        """1 above the band and by more than `effect`, -1 below, 0 within."""
        log = np.log(np.asarray(value, np.float64)) - np.log(self.middle)
        above = (log > np.log(self.high)) & (log > np.log1p(effect))
        below = (log < np.log(self.low)) & (log < -np.log1p(effect))
        return np.asarray(above.astype(np.int64) - below.astype(np.int64), np.int64)


def band(history: ArrayLike, calibrated: tuple[float, int] | None = None) -> Band:
    """From nights (..., n), all positive, oldest first: median and median absolute deviation, Student's quantile.

    `calibrated`: the spread and the number of A/A sessions, the least that nights are taken to be apart, and all that
    is known of it with fewer than `LEAST`.
    """
    from scipy.special import stdtrit

    logs = np.log(np.asarray(history, np.float64))[..., -MOST:]
    n = logs.shape[-1]
    middle = np.median(logs, axis=-1)
    spread = NORMAL * np.median(np.abs(logs - middle[..., None]), axis=-1)
    if calibrated is not None and n < LEAST:
        spread = np.full_like(middle, calibrated[0])
    least, sessions = (FLOOR, n) if calibrated is None else (max(FLOOR, calibrated[0]), max(n, calibrated[1]))
    half = float(stdtrit(sessions - 1, SCREEN)) * np.maximum(spread, least) * np.sqrt(1 + 1 / n)
    return Band(np.exp(middle), np.exp(-half), np.exp(half), spread)


@dataclass(frozen=True)
class Confirmed:
    """The ratio new / good of builds run in turn, with the limits of one-sided 99 % intervals. Arrays (...,)."""

    ratio: Floats
    low: Floats
    high: Floats

    def decision(self, effect: float) -> NDArray[np.str_]:
        """ "slower" by at least half of `effect`, "same" as less than `effect`, or "open"."""
        slower = np.log(self.low) > np.log1p(effect) / 2
        same = np.log(self.high) < np.log1p(effect)
        return np.where(slower, "slower", np.where(same, "same", "open"))


def confirmed(good: ArrayLike, new: ArrayLike) -> Confirmed:
    """From readings (..., rounds) of both builds, each round of fresh processes: Student's t on the log ratios."""
    from scipy.special import stdtrit

    logs = np.log(np.asarray(new, np.float64)) - np.log(np.asarray(good, np.float64))
    n = logs.shape[-1]
    mean = logs.mean(-1)
    half = float(stdtrit(n - 1, LEVEL)) * logs.std(-1, ddof=1) / np.sqrt(n)
    return Confirmed(np.exp(mean), np.exp(mean - half), np.exp(mean + half))


def beyond_seeds(change: ArrayLike, error: ArrayLike, seed_sd: ArrayLike, paired: bool = True) -> NDArray[np.int64]:
    """Of a quality number's change, with its standard error: 1 if it is above a third of the spread between seeds for
    certain, -1 if below, 2 if it is more than that and not 0 by chance, else 0.

    For certain is `LEVEL` one-sided for paired samples, 3 errors for others, which nothing else confirms.
    """
    from scipy.special import ndtri

    apart, slack = np.asarray(change, np.float64), np.asarray(seed_sd, np.float64) / 3
    half = (float(ndtri(LEVEL)) if paired else 3.0) * np.asarray(error, np.float64)
    undecided = (np.abs(apart) > half) & (np.abs(apart) > slack)
    found = np.where(apart - half > slack, 1, np.where(apart + half < -slack, -1, np.where(undecided, 2, 0)))
    return np.asarray(found, np.int64)
