"""How long a worker takes to start: until it can take a job, and then for its first unit of samples and the next one.

python benchmarks/worker_start.py [--adapter next_scale/var-mini] [--device cpu] [--turns 7]

The first worker waits for the nursery, which imports torch; those after it are forked. A worker from scratch, as memory
cells have it, imports all by itself.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from arbench.run.executor import Job, Slot
from arbench.run.nursery import Nursery
from arbench.run.plan import make_plan
from arbench.run.pool import WorkerProcess
from arbench.spec.suite_file import parse

SUITE = "suite: start\nadapters: [{adapter}]\ntasks:\n  - generate: {{n: 128, batch: 64}}\n"


def until(worker: WorkerProcess, kind: str) -> float:
    """Seconds until the worker says that it is so far."""
    begin = time.monotonic()
    while (message := worker.hear()) is not None:
        if message["kind"] == kind:
            return time.monotonic() - begin
        if message["kind"] == "failed":
            raise SystemExit(message["reason"])
    raise SystemExit("the worker has ended")


def started(jobs: list[Job], device: str, nursery: Nursery | None, folder: Path) -> tuple[float, ...]:
    """Seconds of one worker: until it is ready, of its first unit, of its second."""
    begin = time.monotonic()
    worker = WorkerProcess(Slot(device, 1), folder, {}, folder / "log.txt", nursery)
    until(worker, "ready")
    found = [time.monotonic() - begin]
    for job in jobs:
        worker.give(job)
        found.append(until(worker, "unit"))
    worker.reap()
    return tuple(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", default="next_scale/var-mini")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    (cell,) = make_plan(parse(SUITE.format(adapter=options.adapter), "start.yaml")).cells
    jobs = [Job(cell, unit) for unit in cell.units]
    times: dict[str, list[tuple[float, ...]]] = {"the first": [], "one after it": [], "from scratch": []}
    with tempfile.TemporaryDirectory() as root:
        for turn in range(options.turns):
            nursery = Nursery()
            for name, source in (("the first", nursery), ("one after it", nursery), ("from scratch", None)):
                folder = Path(root) / f"{turn} {name}"
                folder.mkdir()
                times[name].append(started(jobs, options.device, source, folder))
            nursery.close()
    print(f"{options.adapter} on {options.device}, medians (and ranges) of {options.turns} turns")
    print("| worker | ready, s | first 64 samples, s | the next 64, s |\n|---|---|---|---|")
    for name, found in times.items():
        cells = [
            f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in zip(*found, strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
