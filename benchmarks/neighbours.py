"""Time and memory of the neighbour metrics against torch-fidelity's precision and recall and the package prdc.

    OMP_NUM_THREADS=1 python benchmarks/neighbours.py [--n 10000] [--m 10000] [--dimension 2048] [--only float32 cdist]

One process, one thread, synthetic features on disk for ours and in memory for the others. CPU time, since a shared
machine stretches wall time; memory is the highest resident size while a tool ran over that before it.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from arbench.metrics.sets.neighbour_passes import Distance
from arbench.metrics.sets.neighbours import Neighbours

TOOLS = ("float32", "cdist", "float64", "adm", "torch-fidelity", "prdc")


def features(n: int, dimension: int, seed: int) -> NDArray[Any]:
    """Non-negative, with 24 directions that matter, like features of an image network."""
    mix = np.random.default_rng(9).standard_normal((24, dimension), dtype=np.float32)
    rows = np.empty((n, dimension), np.float32)
    draw = np.random.default_rng(seed)
    for start in range(0, n, 5000):
        count = min(5000, n - start)
        shape = draw.standard_normal((count, 24), dtype=np.float32) @ mix
        rows[start : start + count] = np.abs(0.1 * (shape + draw.standard_normal((count, dimension), dtype=np.float32)))
    return rows


@contextmanager
def highest(into: dict[str, float]) -> Iterator[None]:
    """Highest resident private memory (file pages left out) while the block runs, over that before, in MB."""
    process, done = psutil.Process(), threading.Event()

    def private() -> int:
        memory = process.memory_info()
        return int(memory.rss - memory.shared)

    before = peak = private()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, private())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        into["MB"] = (max(peak, private()) - before) / 1e6


def run(tool: str, samples: Path, reference: Path) -> dict[str, float]:
    if tool in ("torch-fidelity", "prdc"):
        work = peer(tool, np.load(samples), np.load(reference))
    else:
        work = ours(tool, np.load(samples, mmap_mode="r"), np.load(reference, mmap_mode="r"))  # type: ignore[arg-type]
    cost: dict[str, float] = {}
    with highest(cost):
        wall, cpu = time.perf_counter(), time.process_time()
        values = work()
        cost |= {"cpu s": time.process_time() - cpu, "wall s": time.perf_counter() - wall}
    return cost | values


def ours(distance: Distance, samples: Any, reference: Any) -> Callable[[], dict[str, float]]:
    def work() -> dict[str, float]:
        found = Neighbours(samples, reference, (3, 5), distance=distance)
        both, other = found.precision_recall(3), found.density_coverage(5)
        estimates = (both.precision, both.recall, other.density, other.coverage, found.auth_pct())
        names = ("precision", "recall", "density 5", "coverage 5", "AuthPct")
        return {name: float(e.value or 0) for name, e in zip(names, estimates, strict=True)}

    return work


def peer(tool: str, samples: NDArray[Any], reference: NDArray[Any]) -> Callable[[], dict[str, float]]:
    if tool == "prdc":
        from prdc import compute_prdc

        return lambda: {name: float(v) for name, v in compute_prdc(reference, samples, 5).items()}
    from torch_fidelity.metric_prc import prc_features_to_metric

    pair = (torch.from_numpy(samples), torch.from_numpy(reference))
    settings = {"prc_neighborhood": 3, "prc_batch_size": 10000, "save_cpu_ram": False, "verbose": False}
    return lambda: dict(prc_features_to_metric(*pair, **settings))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="samples")
    parser.add_argument("--m", type=int, default=10_000, help="references")
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--only", nargs="+", choices=TOOLS, default=TOOLS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        samples, reference = Path(folder, "samples.npy"), Path(folder, "reference.npy")
        np.save(samples, features(arguments.n, arguments.dimension, 1) * np.float32(1.02))
        np.save(reference, features(arguments.m, arguments.dimension, 2))
        for tool in arguments.only:
            numbers = {name: f"{value:.5g}" for name, value in run(tool, samples, reference).items()}
            print(f"{tool:15}", *(f"{name} {value}" for name, value in numbers.items()), sep="  ", flush=True)


if __name__ == "__main__":
    main()
