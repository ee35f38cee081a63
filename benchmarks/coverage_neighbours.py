"""How often the 95 % intervals of the neighbour metrics hold the truth, by simulation.

    python benchmarks/coverage_neighbours.py [--repeats 300] [--out docs/coverage-neighbours.md]

In each case one reference is drawn and kept, then a set of samples per repeat. The truth is the mean over all repeats:
the intervals are for another draw of samples against the same reference.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arbench.metrics.estimate import Estimate, share
from arbench.metrics.sets.neighbours import Neighbours

METRICS = ("precision", "recall", "density", "coverage", "AuthPct")
HEAD = """# Coverage of the 95 % intervals of the neighbour metrics

Written by `python benchmarks/coverage_neighbours.py --repeats {repeats}`. Samples and reference are Gaussian in D
dimensions; the samples' mean is moved by `shift` along the first axis and their spread multiplied by `scale`. The
reference of a case is fixed. A cell is *share of intervals that hold the truth, %* / *mean half width over 1.96
standard deviations of the values*; with {repeats} repeats a true 95 % is seen as 95 +- {noise:.1f} % (two standard
errors). The last two columns are what is **not** used: Wilson's interval with the balls taken as fixed.

| {columns} |
|{rule}
"""
COLUMNS = ("n samples", "n reference", "D", "shift", "scale", "k", *METRICS, "recall, Wilson", "coverage, Wilson")
TAIL = """
Recall and coverage have the delete-a-third jackknife. It is not exact, because what one sample decides depends on the
samples near it: where nearly all of the reference is covered, or many samples meet few references, it is wider than
needed. A bootstrap over samples is refused: points that are drawn twice are each other's nearest neighbour.
"""


@dataclass(frozen=True, slots=True)
class Case:
    n: int
    m: int
    dimension: int
    shift: float
    scale: float
    k: int


CASES = (
    Case(300, 300, 2, 0.0, 1.0, 3),
    Case(300, 300, 4, 0.7, 0.8, 3),
    Case(300, 300, 4, 0.7, 0.8, 5),
    Case(300, 300, 16, 0.5, 0.9, 3),
    Case(300, 300, 64, 0.3, 0.95, 5),
    Case(600, 200, 2, 0.0, 1.0, 3),
    Case(600, 200, 4, 0.7, 0.8, 3),
    Case(600, 200, 16, 0.5, 0.9, 5),
    Case(200, 600, 4, 0.7, 0.8, 3),
    Case(200, 600, 16, 0.5, 0.9, 3),
    Case(1000, 1000, 8, 0.5, 0.9, 3),
    Case(1000, 1000, 8, 0.5, 0.9, 5),
)


def estimates(samples: NDArray[Any], reference: NDArray[Any], k: int) -> dict[str, Estimate]:
    found = Neighbours(samples, reference, (k,))
    both, other = found.precision_recall(k), found.density_coverage(k)
    named = dict(
        zip(METRICS, (both.precision, both.recall, other.density, other.coverage, found.auth_pct()), strict=True)
    )
    for name in ("recall", "coverage"):
        value = named[name].value
        assert value is not None
        named[f"{name}, Wilson"] = share(round(value * len(reference)), len(reference))
    return named


def row(case: Case, repeats: int, seed: int) -> str:
    draw = np.random.default_rng([seed, case.n, case.m, case.dimension, case.k])
    reference = draw.normal(size=(case.m, case.dimension)).astype(np.float32)
    found: dict[str, list[Estimate]] = defaultdict(list)
    for _ in range(repeats):
        samples = draw.normal(size=(case.n, case.dimension)).astype(np.float32) * np.float32(case.scale)
        samples[:, 0] += np.float32(case.shift)
        for name, estimate in estimates(samples, reference, case.k).items():
            found[name].append(estimate)
    cells = []
    for name in (*METRICS, "recall, Wilson", "coverage, Wilson"):
        numbers = np.array([(e.value, e.low, e.high) for e in found[name]], dtype=np.float64)
        truth = numbers[:, 0].mean()
        held = np.mean((numbers[:, 1] <= truth) & (truth <= numbers[:, 2]))
        width = (numbers[:, 2] - numbers[:, 1]).mean() / 2 / (1.96 * numbers[:, 0].std(ddof=1))
        cells.append(f"{100 * held:.1f} / {width:.2f}")
    settings = (case.n, case.m, case.dimension, case.shift, case.scale, case.k)
    return "| " + " | ".join([*map(str, settings), *cells]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the table here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    noise = 200 * math.sqrt(0.95 * 0.05 / arguments.repeats)
    text = HEAD.format(repeats=arguments.repeats, noise=noise, columns=" | ".join(COLUMNS), rule="---|" * len(COLUMNS))
    print(text, end="")
    for case in CASES:
        line = row(case, arguments.repeats, arguments.seed)
        print(line, flush=True)
        text += line + "\n"
    if arguments.out:
        arguments.out.write_text(text + TAIL, encoding="utf-8")


if __name__ == "__main__":
    main()
