"""Inception Score from logits, with the splits, order and precision of each tool of the field, and an error bar."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ..estimate import Repeated, around, missing
from ..rows import BLOCK, Rows
from .moments import check_rows

MINIMUM = 2
HELD = 5000
"""Up to so many rows of a split keep their probabilities between the two passes over them."""

Cut = Literal["block", "floor", "chunk", "even"]


@dataclass(frozen=True, slots=True)
class Splits:
    """How a tool cuts the samples into splits.

    `cut`: "block" takes `count` samples at a time, the last split may be short; "floor" cuts in `count` at
    floor(i N / count); "chunk" takes ceil(N / count) at a time; "even" takes floor(N / count) and drops the rest.
    `seed` shuffles with `numpy.random.RandomState`; None leaves the samples in file order. `double` computes in
    float64, else probabilities and their products are float32. `ddof` is that of the spread over splits.
    """

    cut: Cut = "floor"
    count: int = 10
    seed: int | None = 2020
    double: bool = True
    ddof: int = 0

    @property
    def order_matters(self) -> bool:
        return self.seed is None and (self.cut == "block" or self.count > 1)

    def bounds(self, n: int) -> list[tuple[int, int]]:
        """First and last (exclusive) position of each split that has samples."""
        if self.cut == "floor":
            edges = [i * n // self.count for i in range(self.count + 1)]
            return [(a, b) for a, b in pairwise(edges) if b > a]
        if self.cut == "even":
            size = n // self.count
            return [(i * size, (i + 1) * size) for i in range(self.count)] if size else []
        size = self.count if self.cut == "block" else -(-n // self.count)
        return [(start, min(start + size, n)) for start in range(0, n, size)] if n else []


SPLITS = {
    "adm": Splits("block", 5000, seed=None, double=False),
    "torch-fidelity": Splits(),
    "torchmetrics": Splits("chunk", 10, seed=0, double=False, ddof=1),
    "dgm-eval": Splits("even", 10),
    "single": Splits("floor", 1, seed=None),
    "no-shuffle": Splits(seed=None),
}
"""torchmetrics shuffles without a seed: here with RandomState(0). "single" is 1d-tokenizer's."""


def inception_score(logits: Rows, splits: Splits | str = "torch-fidelity", *, labels_sorted: bool = False) -> Repeated:
    """exp of the mean Kullback-Leibler divergence of p(class | image) from its mean over the split, mean over splits.

    `logits` (n, C): Inception's without the bias of its last layer, in the field's use. The 95 % interval is the delta
    method's: sample i moves the divergence of its split of size s by (KL(p_i, mean p) - mean KL) / s, and splits are
    independent. It is for the score at this split size, whose bias of order C / s it leaves out: IS of splits of other
    sizes do not compare. `spread` is the standard deviation over splits that tools print.

    With `labels_sorted`, a score that depends on file order is flagged `labels_sorted`: its splits hold a part of the
    classes each, and it can be several times too low.
    """
    rule = _named(splits)
    check_rows(logits)
    n = len(logits)
    bounds = rule.bounds(n)
    if n < MINIMUM or min((b - a for a, b in bounds), default=0) < MINIMUM:
        return Repeated(missing(f"{n} samples in {max(len(bounds), 1)} splits, each needs at least {MINIMUM}", n))
    order = None if rule.seed is None else np.random.RandomState(rule.seed).permutation(n)
    scores, variances = [], []
    for first, last in bounds:
        divergences = _divergences(logits, order, first, last, np.float64 if rule.double else np.float32)
        mean = divergences.mean()
        if not math.isfinite(float(mean)):
            return Repeated(missing(_why_not_finite(logits, rule), n))
        scores.append(float(np.exp(mean)))
        variances.append((scores[-1] * float(np.std(divergences, ddof=1))) ** 2 / len(divergences))
    flags = ("labels_sorted",) if labels_sorted and rule.order_matters else ()
    error = math.sqrt(sum(variances)) / len(scores)
    estimate = around(float(np.mean(scores)), error, "delta, within splits", n, flags)
    spread = float(np.std(scores, ddof=rule.ddof)) if len(scores) > rule.ddof and len(scores) > 1 else None
    return Repeated(estimate, spread, tuple(scores))


def _named(splits: Splits | str) -> Splits:
    if isinstance(splits, Splits):
        return splits
    if splits not in SPLITS:
        raise UsageError(f"unknown splits {splits!r}", f"known: {', '.join(SPLITS)}")
    return SPLITS[splits]


def _divergences(logits: Rows, order: NDArray[Any] | None, first: int, last: int, dtype: type) -> NDArray[Any]:
    """KL(p_i, mean p) of the samples of one split (s,)."""
    held: list[tuple[NDArray[Any], NDArray[Any]]] = []
    total: NDArray[Any] = np.zeros((1, logits.shape[1]), dtype)
    for p, log_p in _probabilities(logits, order, first, last, dtype):
        total = np.concatenate([total, p]).sum(0, keepdims=True)  # row after row, as NumPy's mean of all would
        if last - first <= HELD:
            held.append((p, log_p))
    with np.errstate(divide="ignore"):
        log_mean = np.log(total[0] / dtype(last - first))
    found = []
    for p, log_p in held or _probabilities(logits, order, first, last, dtype):
        with np.errstate(invalid="ignore"):  # what is not finite shows in the mean
            log_p -= log_mean
            log_p *= p
        found.append(log_p.sum(1))
    return np.concatenate(found)


def _probabilities(
    logits: Rows, order: NDArray[Any] | None, first: int, last: int, dtype: type
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Softmax and its logarithm (b, C), block by block."""
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        part = logits[start:stop] if order is None else logits[np.sort(order[start:stop])]
        log_p: NDArray[Any] = np.array(part, dtype=dtype)
        log_p -= log_p.max(1, keepdims=True)
        p = np.exp(log_p)
        mass = p.sum(1, keepdims=True)
        p /= mass
        if dtype is np.float32:
            with np.errstate(divide="ignore"):
                log_p = np.log(p)  # as ADM does
        else:
            log_p -= np.log(mass)
        yield p, log_p


def _why_not_finite(logits: Rows, rule: Splits) -> str:
    for start in range(0, len(logits), BLOCK):
        if not np.isfinite(np.asarray(logits[start : start + BLOCK])).all():
            return "logits are not finite"
    return f"a class's mean probability is 0 in {'float64' if rule.double else 'float32'}"
