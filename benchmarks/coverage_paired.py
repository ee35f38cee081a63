"""Do the 95 % intervals of paired differences cover the truth in 95 % of draws, and how much shorter are they?

python benchmarks/coverage_paired.py [--repetitions 300] [--seed 0] [--write docs/coverage-paired.md]

On the CPU, one thread; a few minutes.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arbench.metrics import differences
from arbench.metrics.differences import Contrast, of_independent
from arbench.metrics.estimate import Estimate, mean_with_interval, share
from arbench.metrics.sets.frechet import frechet
from arbench.metrics.sets.kernel import kid
from arbench.metrics.sets.moments import Factored

Floats = NDArray[np.float64]
N, DIMENSION, REAL = 500, 16, 2500
INTRODUCTION = """# Coverage of the intervals of paired differences

Two versions of one model draw {n} samples under the same ids. "redrawn" is the share of samples that the new version
draws anew; the others are the old ones, moved a little, and all are 2 % larger. Features have {d} dimensions and a
spectrum that falls as 1 / sqrt(k): Gaussian, or rectified with lognormal lengths. The reference, {real} vectors, is
fixed. Agreement is 95 % before and 94 % after; of samples that are redrawn, hits are independent. Likelihoods are of
the same held-out images; there "redrawn" is the share of an image's variance that is not common. The truth is the mean
over all repetitions, of agreement and likelihood the value itself. "unpaired" is the interval that takes the two sets
as independent, which they are where all samples are redrawn. {repetitions} draws of a correct interval land between
92.5 and 97.5 % covered 19 times out of 20.

Made by `python benchmarks/coverage_paired.py --repetitions {repetitions} --seed {seed}`.

| number | samples | redrawn | difference | 1.96 sd | half-width, paired | covered | unpaired | covered | shorter |
|---|---|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Case:
    """`draw` gives the paired and the unpaired interval of one repetition; `truth` None is the mean of the values."""

    number: str
    samples: str
    redrawn: float
    draw: Callable[[np.random.Generator], tuple[Contrast, Contrast]]
    truth: float | None = None


def features(kind: str) -> Callable[[np.random.Generator, int], Floats]:
    scale = np.arange(1, DIMENSION + 1) ** -0.25

    def gaussian(generator: np.random.Generator, n: int) -> Floats:
        return np.asarray(generator.normal(size=(n, DIMENSION)) * scale, np.float64)

    def rectified(generator: np.random.Generator, n: int) -> Floats:
        rows = np.maximum(gaussian(generator, n) + 0.3, 0)
        return np.asarray(rows * np.exp(0.3 * generator.normal(size=(n, 1))), np.float64)

    return gaussian if kind == "Gaussian" else rectified


def pair(kind: str, redrawn: float, generator: np.random.Generator) -> tuple[Floats, Floats]:
    draw = features(kind)
    old, fresh = draw(generator, N), draw(generator, N)
    kept = generator.random((N, 1)) >= redrawn
    return old, 1.02 * np.where(kept, old, fresh) + 0.05 * kept * generator.normal(size=old.shape)


def distances(kind: str, redrawn: float, seed: int) -> Iterator[Case]:
    reference = features(kind)(np.random.default_rng([seed, 1]), REAL)
    real = Factored.of(reference)

    def of_fid(generator: np.random.Generator) -> tuple[Contrast, Contrast]:
        old, new = pair(kind, redrawn, generator)
        found = differences.of_frechet(old, new, real)
        assert found is not None
        return found, of_independent(frechet(old, real), frechet(new, real))

    def of_kid(generator: np.random.Generator) -> tuple[Contrast, Contrast]:
        old, new = pair(kind, redrawn, generator)
        found = differences.of_kernel(old, new, reference, "polynomial")
        assert found is not None
        return found, of_independent(kid(old, reference), kid(new, reference))

    yield Case("FID", kind, redrawn, of_fid)
    yield Case("KID", kind, redrawn, of_kid)


def agreement(redrawn: float) -> Case:
    def draw(generator: np.random.Generator) -> tuple[Contrast, Contrast]:
        old = generator.random(N) < 0.95
        same = np.where(generator.random(N) < 0.94 / 0.95, old, False)
        new = np.where(generator.random(N) >= redrawn, same, generator.random(N) < 0.94)

        def estimate(hits: NDArray[np.bool_]) -> Estimate:
            return share(int(np.count_nonzero(hits)), N)

        return differences.of_shares(old, new), of_independent(estimate(old), estimate(new))

    return Case("agreement", "hits", redrawn, draw, -0.01)


def likelihood(redrawn: float) -> Case:
    def draw(generator: np.random.Generator) -> tuple[Contrast, Contrast]:
        common = generator.gamma(9, 1 / 9, N)
        own = [generator.gamma(9, 1 / 9, N) for _ in range(2)]
        old, new = (2.8 + 0.5 * ((1 - redrawn) ** 0.5 * (common - 1) + redrawn**0.5 * (each - 1)) for each in own)
        new = new - 0.01
        return differences.of_means(old, new), of_independent(mean_with_interval(old), mean_with_interval(new))

    return Case("likelihood", "nats per token", redrawn, draw, -0.01)


def cases(seed: int) -> Iterator[Case]:
    for redrawn in (0.02, 0.2, 1.0):
        for kind in ("Gaussian", "rectified"):
            yield from distances(kind, redrawn, seed)
        yield agreement(redrawn)
        yield likelihood(redrawn)


def row(case: Case, repetitions: int, seed: int) -> str:
    found = [case.draw(np.random.default_rng([seed, 3, repetition])) for repetition in range(repetitions)]
    values = np.array([paired.value for paired, _ in found])
    truth = float(values.mean()) if case.truth is None else case.truth

    def told(contrasts: list[Contrast]) -> tuple[float, float]:
        known = [(each.low, each.high) for each in contrasts if each.low is not None and each.high is not None]
        inside = np.mean([low <= truth <= high for low, high in known])
        return float(np.mean([(high - low) / 2 for low, high in known])), 100 * float(inside)

    half, covered = told([paired for paired, _ in found])
    wide, wide_covered = told([unpaired for _, unpaired in found])
    return (
        f"| {case.number} | {case.samples} | {case.redrawn:.0%} | {truth:.4g} | {1.96 * values.std(ddof=1):.3g}"
        f" | {half:.3g} | {covered:.1f} % | {wide:.3g} | {wide_covered:.1f} % | {wide / half:.1f} times |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = []
    for case in cases(options.seed):
        lines.append(row(case, options.repetitions, options.seed))
        print(lines[-1], flush=True)
    text = INTRODUCTION.format(n=N, d=DIMENSION, real=REAL, repetitions=options.repetitions, seed=options.seed)
    if options.write:
        options.write.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
