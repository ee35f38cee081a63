"""A run killed with SIGKILL at random moments and resumed each time, held against the same run left alone.

    python benchmarks/kills.py [--moments 30] [--seed 0] [--n 1280] > docs/kills.md

Each moment has a target: a worker (or the process that forks them), the supervisor, or both at once. Half of the
moments are counted from the start of the process, half from the next unit in the journal. At the end the results,
number by number, and every unit, by its digest, must be those of the uninterrupted run; no unit may be in the journal
twice.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

SUITE = """
suite: kills
adapters: [raster/llamagen-mini, next_scale/var-mini]
settings: {{device: cpu}}
tasks:
  - generate: {{n: {n}, reference: mnist5k/heldout, conventions: [offline]}}
"""
TARGETS = ("worker", "supervisor", "both")
FROM_START = 10.0
"""Seconds after the start of the process within which half of the moments lie."""
FROM_UNIT = 2.0
"""Seconds after the next journalled unit within which the other half lies."""


@dataclass(frozen=True)
class Moment:
    """When what was killed: seconds since the process was started, and what the journal held by then."""

    target: str
    seconds: float
    units: int
    finished: int


def arbench(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "arbench", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def records(run: Path) -> list[dict[str, Any]]:
    """What the journal holds; a line that is being written, or was torn, is left out."""
    journal = run / "journal.jsonl"
    lines = journal.read_bytes().splitlines() if journal.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"}")]


def units(run: Path) -> list[tuple[str, str, str]]:
    return [(each["cell"], each["unit"], each["digest"]) for each in records(run) if each["kind"] == "unit"]


def numbers(run: Path) -> dict[str, Any]:
    """Outcome and metrics of every cell, by adapter."""
    found = (json.loads(path.read_text()) for path in run.glob("cells/*/result.json"))
    return {result["adapter"]: (result["outcome"], result["metrics"]) for result in found}


def wait_until(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)


def kill(process: subprocess.Popen[bytes], target: str, chance: random.Random) -> None:
    """SIGKILL for the supervisor, for one of the processes below it, or for both."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    if target != "supervisor" and below:
        victim = chance.choice(below)
        if victim.is_running():
            victim.kill()
    if target != "worker":
        process.kill()
        process.wait()
        wait_until(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in below), 60.0)


def killed(run: Path, suite: Path, moments: int, seed: int) -> list[Moment]:
    """Runs `suite` through so many kills, and then to its end."""
    chance = random.Random(seed)
    process: subprocess.Popen[bytes] | None = None
    found = []
    started = 0.0
    for number in range(moments):
        if process is None or process.poll() is not None:
            process, started = _start(run, suite), time.monotonic()
        if chance.random() < 0.5:
            time.sleep(chance.random() * FROM_START)
        else:
            _wait_for_a_unit(run, process)
            time.sleep(chance.random() * FROM_UNIT)
        target = TARGETS[number % len(TARGETS)]
        seen = records(run)
        counts = Counter(record["kind"] for record in seen)
        kill(process, target, chance)
        found.append(Moment(target, time.monotonic() - started, counts["unit"], counts["finished"]))
        print(found[-1], file=sys.stderr)
    for _ in range(3):  # the last kill may have been of a worker: its cell has failed, and is tried again
        if process is not None and process.wait() == 0:
            break
        process = _start(run, suite)
    return found


def _wait_for_a_unit(run: Path, process: subprocess.Popen[bytes]) -> None:
    before = len(units(run))
    wait_until(lambda: len(units(run)) > before or process.poll() is not None, 60.0)


def _start(run: Path, suite: Path) -> subprocess.Popen[bytes]:
    if (run / "run.json").exists():
        return arbench("resume", run, "--track", "off")
    for leftover in run.iterdir() if run.exists() else ():  # killed before there was a run
        _remove(leftover)
    return arbench("run", suite, "--out", run, "--track", "off", "--workers", 2)


def _remove(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=1280)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        suite, whole, run = (Path(folder) / name for name in ("kills.yaml", "whole", "run"))
        suite.write_text(SUITE.format(n=arguments.n), encoding="utf-8")
        assert arbench("run", suite, "--out", whole, "--track", "off", "--workers", 2).wait() == 0
        moments = killed(run, suite, arguments.moments, arguments.seed)
        verified = arbench("verify", run).wait()
        twice = sum(count - 1 for count in Counter(unit[:2] for unit in units(run)).values())
        same_units = sorted(units(run)) == sorted(units(whole))
        same_numbers = numbers(run) == numbers(whole)
        _print(moments, len(units(whole)), twice, same_units, same_numbers, verified)
        return 0 if same_units and same_numbers and not twice and not verified else 1


def _print(moments: list[Moment], count: int, twice: int, same_units: bool, same_numbers: bool, verified: int) -> None:
    print("# A run killed at random moments\n")
    print(f"`python benchmarks/kills.py`: {count} units of two models, {len(moments)} times SIGKILL, then resumed.\n")
    print("| | |\n|---|---|")
    print(f"| results equal those of the uninterrupted run | {'yes' if same_numbers else 'NO'} |")
    print(f"| units equal those of the uninterrupted run, by digest | {'yes' if same_units else 'NO'} |")
    print(f"| units computed again after they were journalled | {twice} |")
    print(f"| exit code of `arbench verify` at the end | {verified} |\n")
    print("| | killed | after s | units journalled | cells finished or failed |\n|---|---|---|---|---|")
    for number, moment in enumerate(moments, start=1):
        print(f"| {number} | {moment.target} | {moment.seconds:.1f} | {moment.units} | {moment.finished} |")


if __name__ == "__main__":
    sys.exit(main())
