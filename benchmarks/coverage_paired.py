"""Do the 95 % intervals of paired differences cover the truth in 95 % of draws, and how much shorter are they?

python benchmarks/coverage_paired.py [--repetitions 1000] [--seed 0] [--write docs/coverage-paired.md]

On the CPU, one thread; a few minutes.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arbench.metrics import differences
from arbench.metrics.differences import Contrast, of_independent
from arbench.metrics.estimate import Estimate, Z, mean_with_interval, share
from arbench.metrics.sets.frechet import frechet
from arbench.metrics.sets.kernel import ON_HOST, kid
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
as independent, which they are where all samples are redrawn. Each row has draws of its own; {repetitions} draws of a
correct interval land between {least:.1f} and {most:.1f} % covered 19 times out of 20.

Made by `python benchmarks/coverage_paired.py --repetitions {repetitions} --seed {seed}`.

| number | samples | redrawn | difference | 1.96 sd | half-width, paired | covered | unpaired | covered | shorter |
|---|---|---|---|---|---|---|---|---|---|
"""
FEW = """
## Agreement with few samples that differ

Only samples that are a hit once and a miss once count, and they are whole numbers. With none at all, which happens in
{none:.0%} of draws where one is expected, the interval is that of {z} / ({n} + {z}) to both sides, and no interval that
follows from the data alone can be much shorter there and hold where a few more are expected. So it covers more often
than 95 %, by the sum over all outcomes (no simulation) of two versions with equal agreement:

| of {n} samples expected to differ | covered |
|---|---|
{rows}

## What they do not mend

Lengths that scatter more than lognormally by 0.3 leave a normal interval of a cubic kernel wanting: with 0.5, and 2 %
longer samples, {heavy:.0f} % of {few} draws of KID's difference were covered at 5 % redrawn. FID's difference covered
{frechet:.0f} % of the same draws.
"""


@dataclass(frozen=True)
class Case:
    """`draw` gives the paired and the unpaired interval of one repetition; `truth` None is the mean of the values."""

    number: str
    samples: str
    redrawn: float
    draw: Callable[[np.random.Generator], tuple[Contrast, Contrast]]
    truth: float | None = None


LENGTHS = {"Gaussian": None, "rectified": 0.3, "rectified, long tail": 0.5}
"""Of the kinds of samples: how far the logarithms of their lengths scatter."""


def features(kind: str) -> Callable[[np.random.Generator, int], Floats]:
    scale, spread = np.arange(1, DIMENSION + 1) ** -0.25, LENGTHS[kind]

    def draw(generator: np.random.Generator, n: int) -> Floats:
        rows = np.asarray(generator.normal(size=(n, DIMENSION)) * scale, np.float64)
        if spread is None:
            return rows
        return np.asarray(np.maximum(rows + 0.3, 0) * np.exp(spread * generator.normal(size=(n, 1))), np.float64)

    return draw


def pair(kind: str, redrawn: float, generator: np.random.Generator) -> tuple[Floats, Floats]:
    draw = features(kind)
    old, fresh = draw(generator, N), draw(generator, N)
    kept = generator.random((N, 1)) >= redrawn
    return old, 1.02 * np.where(kept, old, fresh) + 0.05 * kept * generator.normal(size=old.shape)


def distances(kind: str, redrawn: float, seed: int) -> Iterator[Case]:
    reference = features(kind)(np.random.default_rng([seed, 1]), REAL)
    real, sums = Factored.of(reference), ON_HOST.within(reference, "polynomial")

    def of_fid(generator: np.random.Generator) -> tuple[Contrast, Contrast]:
        old, new = pair(kind, redrawn, generator)
        found = differences.of_frechet(old, new, real)
        assert found is not None
        return found, of_independent(frechet(old, real), frechet(new, real))

    def of_kid(generator: np.random.Generator) -> tuple[Contrast, Contrast]:
        old, new = pair(kind, redrawn, generator)
        found = differences.of_kernel(old, new, reference, "polynomial", lambda: sums)
        assert found is not None
        one, two = (kid(rows, reference, known=lambda: sums) for rows in (old, new))
        return found, of_independent(one, two)

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


def drawn(case: Case, repetitions: int, seed: int) -> tuple[list[Contrast], list[Contrast], float]:
    """The paired intervals, the unpaired ones, and the truth."""
    own = zlib.crc32(f"{case.number} {case.samples} {case.redrawn}".encode())
    found = [case.draw(np.random.default_rng([seed, own, repetition])) for repetition in range(repetitions)]
    paired, unpaired = ([each[side] for each in found] for side in (0, 1))
    truth = float(np.mean([each.value for each in paired])) if case.truth is None else case.truth
    return paired, unpaired, truth


def told(contrasts: list[Contrast], truth: float) -> tuple[float, float]:
    """The mean half-width, and the percentage that covers the truth."""
    known = [(each.low, each.high) for each in contrasts if each.low is not None and each.high is not None]
    inside = np.mean([low <= truth <= high for low, high in known])
    return float(np.mean([(high - low) / 2 for low, high in known])), 100 * float(inside)


def row(case: Case, repetitions: int, seed: int) -> str:
    paired, unpaired, truth = drawn(case, repetitions, seed)
    (half, covered), (wide, wide_covered) = told(paired, truth), told(unpaired, truth)
    deviation = float(np.std([each.value for each in paired], ddof=1))
    return (
        f"| {case.number} | {case.samples} | {case.redrawn:.0%} | {truth:.4g} | {1.96 * deviation:.3g}"
        f" | {half:.3g} | {covered:.1f} % | {wide:.3g} | {wide_covered:.1f} % | {wide / half:.1f} times |"
    )


def exactly_covered(expected: float) -> float:
    """The share of draws in which the interval of two equal shares of N holds 0, where so many samples differ on
    average: summed over all numbers won and lost that have a weight."""
    from scipy.stats import multinomial

    chance, total = expected / (2 * N), 0.0
    for won, lost in product(range(int(expected + 8 * expected**0.5) + 8), repeat=2):
        weight = float(multinomial.pmf([won, lost, N - won - lost], N, [chance, chance, 1 - 2 * chance]))
        if weight < 1e-12:
            continue
        first, second = np.zeros(N, bool), np.zeros(N, bool)
        second[:won], first[won : won + lost] = True, True
        found = differences.of_shares(first, second)
        assert found.low is not None
        assert found.high is not None
        total += weight * (found.low <= 0 <= found.high)
    return total


def few(repetitions: int, seed: int) -> str:
    rows = "\n".join(f"| {each} | {exactly_covered(each):.1%} |" for each in (1, 2, 5, 10, 20, 40))
    heavy = {}
    for case in distances("rectified, long tail", 0.05, seed):
        paired, _, truth = drawn(case, repetitions, seed)
        heavy[case.number] = told(paired, truth)[1]
    return FEW.format(
        rows=rows,
        n=N,
        z=f"{Z**2:.2f}",
        none=(1 - 1 / N) ** N,
        heavy=heavy["KID"],
        frechet=heavy["FID"],
        few=repetitions,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = []
    for case in cases(options.seed):
        lines.append(row(case, options.repetitions, options.seed))
        print(lines[-1], flush=True)
    off = 196 * (0.95 * 0.05 / options.repetitions) ** 0.5
    text = INTRODUCTION.format(
        n=N, d=DIMENSION, real=REAL, repetitions=options.repetitions, seed=options.seed, least=95 - off, most=95 + off
    )
    text += "\n".join(lines) + "\n" + few(options.repetitions, options.seed)
    if options.write:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
