"""Do the 95 % intervals of the Frechet and kernel distances cover the truth in 95 % of draws?

python benchmarks/coverage.py [--repetitions 300] [--seed 0] [--write docs/coverage.md]

On the CPU, one thread; about an hour. Features of MNIST-5k are computed once and kept in the folder for temporary
files.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arbench.metrics.estimate import Z
from arbench.metrics.sets.extrapolation import fid_infinity
from arbench.metrics.sets.frechet import frechet
from arbench.metrics.sets.kernel import kid
from arbench.metrics.sets.kernel_subsets import Subsets, kid_subsets
from arbench.metrics.sets.moments import Factored

APART = "rectified, lengths 50 % apart"
SUBSETS = Subsets(count=50, size=200)
Floats = NDArray[np.float64]
CACHE = Path(tempfile.gettempdir()) / "arbench-mnist5k-efficientnet-lite0.npy"


@dataclass(frozen=True)
class Case:
    """`draw(generator, n)` gives samples; `kid` is the kernel distance of their distribution to the fixed reference."""

    name: str
    n: int
    reference: Floats
    draw: Callable[[np.random.Generator, int], Floats]
    kid: float | None
    """None: it has no closed form, and the mean of the values stands for it."""
    share: int = 1
    """Above 1, of many dimensions: one in so many repetitions, and the Frechet distance by one interval alone."""


def gaussian(name: str, n: int, dimension: int, shift: float, stretch: float, seed: int) -> Case:
    """Samples of N(shift, diag), the diagonal falling like a spectrum; the reference is 2,500 draws of N(0, diag)."""
    variance = 1 / np.sqrt(np.arange(1, dimension + 1))
    reference = np.random.default_rng([seed, 1]).normal(size=(2500, dimension)) * np.sqrt(variance)
    mean, own = shift * np.sqrt(variance), stretch * variance

    def draw(generator: np.random.Generator, n: int) -> Floats:
        return generator.normal(size=(n, dimension)) * np.sqrt(own) + mean

    # given a point a, a.x / D + 1 is normal, and E u^3 = m^3 + 3 m v for a normal u
    d = dimension
    m, v = reference @ mean / d + 1, (reference**2) @ own / d**2
    across = float((m**3 + 3 * m * v).mean())
    middle, spread = mean @ mean / d + 1, mean @ (own * mean) / d**2
    quadratic = (own @ own + mean @ (own * mean)) / d**2
    within = middle**3 + 3 * middle * spread + 3 * (middle * quadratic + 2 * mean @ (own**2 * mean) / d**3)
    return Case(name, n, reference, draw, float(within) + _u_statistic(reference) - 2 * across)


def rectified(dimension: int, scatter: float, longer: float = 1.0) -> Callable[[np.random.Generator, int], Floats]:
    """Rectified normal rows, as ReLU features are, whose lengths are lognormal, with this `scatter` of their
    logarithm, and times `longer`."""
    turn = np.linalg.qr(np.random.default_rng(99).normal(size=(dimension, dimension)))[0]
    through = (turn * np.arange(1, dimension + 1) ** -0.5 * 3).T

    def draw(generator: np.random.Generator, n: int) -> Floats:
        rows = np.maximum(generator.normal(size=(n, dimension)) @ through - 0.3, 0)
        return np.asarray(longer * rows * np.exp(scatter * generator.normal(size=(n, 1))), np.float64)

    return draw


def finite(name: str, n: int, population: Floats, weights: Floats, reference: Floats, share: int = 1) -> Case:
    """Samples drawn one by one, with replacement, from a finite population with these weights."""

    def draw(generator: np.random.Generator, n: int) -> Floats:
        return population[generator.choice(len(population), n, p=weights)]

    within = float(weights @ _kernel(population, population) @ weights)
    across = float(weights @ _kernel(population, reference).mean(1))
    return Case(name, n, reference, draw, within + _u_statistic(reference) - 2 * across, share)


def _kernel(a: Floats, b: Floats) -> Floats:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _u_statistic(rows: Floats) -> float:
    kernel = _kernel(rows, rows)
    return float((kernel.sum() - np.trace(kernel)) / (len(rows) * (len(rows) - 1)))


def mnist_features() -> tuple[Floats, NDArray[np.int64]]:
    """(5000, 1280) and the digits."""
    from arbench.data.readers.mnist import SPLITS, mnist5k

    sources = [mnist5k(split) for split in SPLITS]
    labels = np.concatenate([source.labels for source in sources if source.labels is not None])
    if not CACHE.is_file():
        import torch

        from arbench.features import recipes
        from arbench.features.weight_files import feature_weights

        torch.set_num_threads(1)
        extractor = recipes.load("efficientnet-lite0", feature_weights({}))
        found = [extractor(list(source.load(range(len(source)))))["pooled"] for source in sources]
        np.save(CACHE, np.concatenate(found))
    return np.load(CACHE).astype(np.float64), labels


def cases(seed: int) -> list[Case]:
    features, labels = mnist_features()
    order = np.random.default_rng([seed, 2]).permutation(len(features))
    real, fake = features[order[:2500]], features[order[2500:]]
    even = np.full(len(fake), 1 / len(fake))
    tilted = 1.0 + labels[order[2500:]]  # digit 9 ten times as often as 0
    tilted /= tilted.sum()
    axes = np.linalg.svd(real - real.mean(0), full_matrices=False)[2][:64].T
    real64, fake64 = (real - real.mean(0)) @ axes, (fake - real.mean(0)) @ axes
    kinds = (("rectified", 0.0, 1.0), (f"{APART}", 0.5, 1.0), (f"{APART}, and 10 % longer", 0.5, 1.1))
    skewed = [
        Case(
            f"{name}, D = {d}{', same distribution' if longer == 1 else ''}",
            n,
            rectified(d, scatter)(np.random.default_rng([seed, 1]), 4000),
            rectified(d, scatter, longer),
            None,
            share,
        )
        for d, n, share in ((64, 500, 1), (64, 2000, 1), (256, 2000, 2))
        for name, scatter, longer in kinds
    ]
    return [
        *skewed,
        gaussian("Gaussian, D = 64, shifted and stretched", 2000, 64, 0.1, 1.2, seed),
        gaussian("Gaussian, D = 64, shifted and stretched", 500, 64, 0.1, 1.2, seed),
        gaussian("Gaussian, D = 64, same distribution", 2000, 64, 0.0, 1.0, seed),
        finite("MNIST-5k, PCA to 64, unequal classes", 2000, fake64, tilted, real64),
        finite("MNIST-5k, PCA to 64, other half", 2000, fake64, even, real64),
        finite("MNIST-5k, all 1,280, unequal classes", 2000, fake, tilted, real, share=4),
        *large(seed),
    ]


def large(seed: int) -> list[Case]:
    """As many dimensions as Inception has."""
    draw, heavy = rectified(2048, 0.0), rectified(2048, 0.5)
    return [
        Case(f"{name}, D = 2048, same distribution", 4000, of(np.random.default_rng([seed, 1]), 4000), of, None, 10)
        for name, of in (("rectified", draw), (APART, heavy))
    ]


@dataclass(frozen=True)
class Row:
    what: str
    truth: float
    ideal: float
    half: float
    coverage: float
    repetitions: int
    none: int = 0
    """Repetitions without an interval, for heavy tails."""


def measure(case: Case, repetitions: int, seed: int) -> list[Row]:
    real = Factored.of(case.reference)
    found: dict[str, list[tuple[float, float]]] = {}
    for repetition in range(repetitions // case.share):
        samples = case.draw(np.random.default_rng([seed, 3, repetition]), case.n)
        both = samples.astype(np.float32), case.reference.astype(np.float32)  # as features are
        estimates = {"KID": kid(*both), "KID, subsets": kid_subsets(*both, replace(SUBSETS, seed=repetition)).estimate}
        estimates["Frechet"] = frechet(samples, real)
        if case.share == 1:
            estimates["Frechet, jackknife"] = frechet(samples, real, method="jackknife")
            smallest = max(case.n // 10, real.dimension)
            estimates["FID-infinity"] = fid_infinity(samples, real, smallest=smallest).estimate
        for what, estimate in estimates.items():
            if estimate.value is not None:
                low, high = (np.nan if limit is None else limit for limit in (estimate.low, estimate.high))
                found.setdefault(what, []).append((estimate.value, low, high))
    rows = []
    for what, triples in sorted(found.items()):
        values, low, high = np.array(triples).T
        known = np.isfinite(low)
        # the distance at n has no closed form: its mean over all repetitions stands for it, and so does that of the
        # extrapolated one, whose remaining bias is not in its interval
        like = "Frechet" if what.startswith("Frechet") else "KID" if what.startswith("KID") else what
        mean = float(np.mean([value for value, _, _ in found[like]]))
        truth = case.kid if like == "KID" and case.kid is not None else mean
        covered = float(np.mean((low <= truth) & (truth <= high), where=known)) if known.any() else np.nan
        half = float(np.mean((high - low) / 2, where=known)) if known.any() else np.nan
        rows.append(Row(what, truth, Z * float(values.std(ddof=1)), half, covered, len(values), int((~known).sum())))
    return rows


HEAD = (
    "| features | n | interval | truth | 1.96 sd of the value | mean half-width | covered | repetitions | without |\n"
    + "|---" * 9
    + "|"
)

NOTE = """# Coverage of the 95 % intervals

Independent draws of n samples against one fixed reference of 2,500 vectors, or 4,000 where they are rectified (so
`reference fixed`, the default). The truth of a Frechet distance is its mean at this n, over all repetitions: its
interval is about the distance at n and does not cover the bias of order D / n; that of FID-infinity is its own mean.
The truth of KID is the value of the distribution itself, in closed form, or the mean where there is none; "KID,
subsets" is the mean over 50 random subsets of 200, other ones in each repetition. Rectified: ReLU of normal rows with
a spectrum that falls as 1 / k, times lognormal lengths. "without": draws that have no interval but the flag
`heavy_tails`; "covered" is of the others. MNIST-5k: features of
EfficientNet-Lite0; one half of the images is the reference, and samples are drawn one by one from the other half as a
finite population. 300 draws of a correct interval land between 92.5 and 97.5 % covered 19 times out of 20, 100 between
90 and 99 %, 20 between 85 and 100 %. Of 256 dimensions there are half as many repetitions, of MNIST's 1,280 a quarter,
of 2048 a tenth, which tell the width to a third and the coverage hardly; these have neither FID-infinity nor the
jackknife of blocks. n below 10 D, as in 500 at D = 64, is flagged `small_n` in results.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="*", metavar="GLOB", help="of the cases' names, for instance '*2048*'")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = [HEAD]
    print(HEAD, flush=True)
    for case in cases(options.seed):
        if not fnmatchcase(case.name, options.only):
            continue
        begin = time.perf_counter()
        for row in measure(case, options.repetitions, options.seed):
            figures = f"{row.truth:.5g} | {row.ideal:.3g} | {row.half:.3g} | {100 * row.coverage:.1f} %"
            figures += f" | {row.repetitions} | {row.none}"
            lines.append(
                f"| {case.name} | {case.n} | {row.what} | {figures} |".replace("nan %", "-").replace("nan", "-")
            )
            print(lines[-1], flush=True)
        print(f"<!-- {time.perf_counter() - begin:.0f} s -->", flush=True)
    if options.write:
        command = f"`python benchmarks/coverage.py --repetitions {options.repetitions} --seed {options.seed}"
        command += f" --only '{options.only}'`" if options.only != "*" else "`"
        options.write.write_text(NOTE + f"\nMade by {command} on the CPU.\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
