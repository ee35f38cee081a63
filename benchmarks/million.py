"""A run of a million samples in 1,000 cells, its units simulated: what planning, journal, resume and report take.

    python benchmarks/million.py [--cells 100 1000] [--workers 8] > docs/million.md

A sweep of one model's temperature and top-k makes the cells, of 1,000 samples each. Workers answer at once with a unit
of a few bytes and a result of 30 numbers, so that all time is the harness's own. The run is broken off when half of
its cells are done, and resumed. MLflow is off: its own speed is that of its server.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from rich.console import Console

from arbench import images
from arbench.files import write_atomic
from arbench.run import local, session
from arbench.run.executor import Job, Slot, Worker
from arbench.run.results import identity_fields
from arbench.run.start import start
from arbench.run.store import Store
from arbench.run.wire import receive, send
from arbench.spec.result import Interval, Metric, Result
from arbench.spec.suite_file import of_data

SAMPLES = 1000
"""Of a cell."""
METRICS = 30


class Broken(Exception):
    """The run is broken off here."""


class Simulated(Worker):
    """A worker that answers each job at once: what `pool.WorkerProcess` is for the supervisor."""

    stop_after = 0
    """Results after which the run is broken off; 0 for never."""
    results = 0

    def __init__(self, slot: Slot, folder: Path, weights: Mapping[str, str], log: Path, nursery: object = None) -> None:
        super().__init__(slot)
        self.pipe, self._own = Pipe()
        self._folder = folder
        self._unit = images.pack({"x": np.zeros(4, np.uint8)})

    def give(self, job: Job, *, units: Sequence[str] = (), started: str = "", seconds: float = 0.0) -> None:
        self.take(job)
        here = self._folder / "cells" / job.cell_id
        if job.unit is not None:
            digest = write_atomic(here / "units" / f"{job.unit.name}.npz", self._unit)
            send(self._own, {"kind": "unit", "unit": job.unit.name, "digest": digest, "seconds": 0.01})
            return
        if Simulated.stop_after and Simulated.results >= Simulated.stop_after:
            raise Broken
        Simulated.results += 1
        data = (_result(job, started).model_dump_json(indent=1) + "\n").encode()
        send(self._own, {"kind": "finished", "digest": write_atomic(here / "result.json", data), "files": {}})

    def hear(self) -> dict[str, Any]:
        return receive(self.pipe)

    def look(self) -> None: ...

    def tick(self) -> None: ...

    def terminate(self, why: str, grace: float) -> None: ...

    def reap(self, grace: float = 0.0) -> int:
        return 0


def _result(job: Job, started: str) -> Result:
    seed = int(job.cell_id[-6:], 16)
    values = np.random.default_rng(seed).normal(10, 1, METRICS)
    metrics = tuple(
        Metric(
            name="fid" if index == 0 else f"number-{index}",
            convention="offline",
            value=float(value),
            n=SAMPLES,
            how="simulated",
            interval=Interval(low=float(value) - 1, high=float(value) + 1, method="simulated"),
        )
        for index, value in enumerate(values)
    )
    fields = identity_fields(job.planned.cell)
    return Result(**fields, outcome="ok", metrics=metrics, started=started, wall_seconds=0.2)


def suite(cells: int) -> dict[str, Any]:
    temperatures = [round(0.5 + 0.01 * index, 2) for index in range(max(cells // 20, 1))]
    return {
        "suite": "million",
        "adapters": ["raster/llamagen-mini"],
        "settings": {"device": "cpu"},
        "tasks": [{"generate": {"n": SAMPLES, "conventions": ["offline"], "reference": "mnist5k/heldout"}}],
        "sampling": {"raster/llamagen-mini": {"temperature": temperatures, "top_k": list(range(5, 25))}},
    }


@contextlib.contextmanager
def timed(found: dict[str, float], name: str) -> Iterator[None]:
    begin = time.process_time()
    try:
        yield
    finally:
        found[name] = time.process_time() - begin


def measured(cells: int, workers: int) -> dict[str, float]:
    """Processor seconds of each stage, peak memory and sizes in MB, of a run of so many cells."""
    found: dict[str, float] = {}
    console = Console(file=io.StringIO(), width=120)
    report = session.Session._report
    with (
        mock.patch.object(local, "WorkerProcess", Simulated),
        mock.patch.object(session.Session, "_report", return_value=None),
        tempfile.TemporaryDirectory() as folder,
    ):
        run = Path(folder) / "run"
        with timed(found, "plan, s"):
            store = start(of_data(suite(cells)), out=run, track="off", workers=workers)
        total = len(store.run.plan.cells)
        Simulated.stop_after, Simulated.results = total // 2, 0
        with timed(found, "run of the first half, s"), contextlib.suppress(Broken):
            session.Session(store, console, "run", workers, "off").go()
        store.close()
        Simulated.stop_after = 0
        with timed(found, "status, s"):
            session.state_of(Store.read(run))
        store = Store.resume(run)
        with timed(found, "resume and the second half, s"):
            again = session.Session(store, console, "resume", workers, "off")
            again.go()
        with timed(found, "report, s"):
            assert report(again) is not None
        store.close()
        found["cells"], found["units"] = total, sum(len(cell.planned.units) for cell in again.state.values())
        found["run.json, MB"] = (run / "run.json").stat().st_size / 1e6
        found["journal, MB"] = (run / "journal.jsonl").stat().st_size / 1e6
        found["report, MB"] = (run / "report.html").stat().st_size / 1e6
        found["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--one", action="store_true", help="print one measurement as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.cells[0], arguments.workers)))
        return 0
    columns = []
    for cells in arguments.cells:  # each in a fresh process, for its peak of memory
        command = [sys.executable, __file__, "--one", "--cells", str(cells), "--workers", str(arguments.workers)]
        columns.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    print("# A million samples in 1,000 cells\n")
    print("`python benchmarks/million.py`: simulated units, so that all of it is the harness's own time.")
    print("Seconds are of the processor: waiting for the disk, which syncs each record, is not in them.\n")
    heads = [f"{column['cells']:,} cells" for column in columns]
    print(f"| | {' | '.join(heads)} |\n|---|{'---:|' * len(columns)}")
    for name in columns[0]:
        if name != "cells":
            shown = (f"{column[name]:,.0f}" if name == "units" else f"{column[name]:.2f}" for column in columns)
            print(f"| {name} | {' | '.join(shown)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
