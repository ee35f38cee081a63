"""The same speed cell in fresh processes: how far they spread, and how often intervals cover the others' median.

    python benchmarks/repeats.py [--adapter raster/llamagen-mini] [--batch 1] [--processes 12] [--min-seconds 2]

An interval over the calls of one process says nothing of other processes. One over three processes says where another
run of three lands, and covers the median of the others at least so often. As twelve processes are few, the rate is
printed beside the least that nineteen of twenty series of twelve independent processes would show.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from arbench.images import unpack
from arbench.measure import statistics
from arbench.measure.statistics import interval_over_processes
from arbench.tasks.speed import numbers

SUITE = """
suite: repeats
adapters: [{adapter}]
tasks:
  - speed: {{batches: [{batch}], processes: {processes}, min_seconds: {min_seconds}, interval: null}}
"""


def measured(adapter: str, batch: int, processes: int, min_seconds: float) -> list[dict[str, np.ndarray]]:
    """The units of a run, one a process, in the order they were measured."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "suite.yaml"
        suite.write_text(
            SUITE.format(adapter=adapter, batch=batch, processes=processes, min_seconds=min_seconds), encoding="utf-8"
        )
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "arbench", "run", str(suite), "--out", str(out), "--track", "off"]
        subprocess.run(command, check=True)
        return [unpack(path.read_bytes()) for path in sorted(out.glob("cells/*/units/*.npz"))]


Bounds = tuple[float, float] | None


def covered(medians: np.ndarray, runs: Sequence[Sequence[int]], intervals: Sequence[Bounds]) -> float:
    """How often the interval of some processes holds the median of the other processes' medians."""
    hits = [
        interval is not None and interval[0] <= np.median(np.delete(medians, list(run))) <= interval[1]
        for run, interval in zip(runs, intervals, strict=True)
    ]
    return float(np.mean(hits))


def runs_of(count: int, size: int = 3) -> list[range]:
    """All runs of processes one after the other, as a suite would make them."""
    return [range(first, first + size) for first in range(count - size + 1)]


def over_runs(medians: np.ndarray, unsteady: Sequence[bool]) -> float:
    """How often the intervals of three processes in a row, made as the task makes them, cover the others' median."""
    runs = runs_of(len(medians))
    intervals = [
        interval_over_processes(medians[list(run)], unsteady=any(unsteady[each] for each in run)) for run in runs
    ]
    return covered(medians, runs, intervals)


def by_chance(count: int, *, unsteady: bool, series: int = 400) -> float:
    """The least rate of `over_runs` that nineteen of twenty series of independent processes have."""
    rng = np.random.default_rng(0)
    rates = [over_runs(np.exp(0.01 * rng.normal(size=count)), [unsteady] * count) for _ in range(series)]
    return float(np.quantile(rates, 0.05, method="lower"))


def flags_of(unit: Mapping[str, np.ndarray]) -> set[str]:
    """What the task would say of a process."""
    return set(numbers.flags_of(numbers.merged([unit], ["sample"]), "sample"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--adapter", default="raster/llamagen-mini")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--processes", type=int, default=12)
    parser.add_argument("--min-seconds", type=float, default=2.0)
    given = parser.parse_args()
    units = measured(given.adapter, given.batch, given.processes, given.min_seconds)
    series = [unit["sample_seconds"] for unit in units]
    medians = np.array([np.median(each) for each in series])
    spread = float(np.std(np.log(medians), ddof=1))
    print(f"{given.adapter}, batch {given.batch}: {len(units)} processes, {min(map(len, series))} calls or more each")
    print("medians [ms]: " + ", ".join(f"{1e3 * each:.2f}" for each in medians))
    print(f"geometric mean {1e3 * np.exp(np.log(medians).mean()):.2f} ms; spread between processes {spread:.1%}")
    print(f"within a process: interquartile range {np.median([statistics.relative_iqr(each) for each in series]):.1%}")
    print(f"other processes of the machine used {np.mean([unit['sample_disturbance'][0] for unit in units]):.1f} cores")
    flags = [flags_of(unit) for unit in units]
    counted = Counter(flag for each in flags for flag in each)
    print("flagged: " + (", ".join(f"{flag} ({times})" for flag, times in sorted(counted.items())) or "nothing"))
    alone = [[index] for index in range(len(medians))]
    over_calls = covered(medians, alone, [statistics.median_interval(each) for each in series])
    print(f"95 % intervals over the calls of one process cover the median of the others: {over_calls:.0%}")
    unsteady = [not numbers.UNSTEADY.isdisjoint(each) for each in flags]
    least = by_chance(len(medians), unsteady=all(unsteady))
    print(
        f"95 % intervals over three processes in a row cover it: {over_runs(medians, unsteady):.0%}"
        f" (of independent processes, {least:.0%} or more in 19 of 20 such series)"
    )


if __name__ == "__main__":
    main()
