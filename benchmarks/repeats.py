"""The same speed cell in fresh processes: how far they spread, and how often intervals cover the others' median.

    python benchmarks/repeats.py [--adapter raster/llamagen-mini] [--batch 1] [--processes 12] [--min-seconds 2]

An interval over calls says nothing of other processes, and covers too seldom; one over processes should cover at its
nominal rate. Both rates are printed, with what else was at work on the machine.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from arbench.images import unpack
from arbench.measure import statistics

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


def covered(medians: np.ndarray, intervals: list[tuple[float, float] | None]) -> float:
    """How often the interval of a process holds the median of the other processes' medians."""
    hits = [
        interval is not None and interval[0] <= np.median(np.delete(medians, index)) <= interval[1]
        for index, interval in enumerate(intervals)
    ]
    return float(np.mean(hits))


def covered_by_three(medians: np.ndarray) -> float:
    """How often the interval over three processes holds the median of the others, over all choices of three."""
    hits = []
    for chosen in itertools.combinations(range(len(medians)), 3):
        bounds = statistics.interval_over_processes(medians[list(chosen)])
        others = np.median(np.delete(medians, chosen))
        hits.append(bounds is not None and bounds[0] <= others <= bounds[1])
    return float(np.mean(hits))


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
    over_calls = covered(medians, [statistics.median_interval(each) for each in series])
    print(f"95 % intervals over calls cover the median of the others: {over_calls:.0%}")
    print(f"95 % intervals over three processes cover it: {covered_by_three(medians):.0%}")


if __name__ == "__main__":
    main()
