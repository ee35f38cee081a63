"""The task `memory` in its worker process: adapters that need, keep or give back a known amount."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from arbench.cli.main import main

MIB = 1 << 20
SUITE = """
suite: known
title: Known amounts
adapters: [farm/needs-10, farm/needs-40, farm/keeps-2, farm/churns]
settings: {device: cpu}
tasks:
  - memory: {batches: [1]}
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no peak of a single call elsewhere")


@pytest.fixture(scope="module")
def two_processors() -> Iterator[None]:
    """Linux keeps parts of its counts of pages per processor, which a peak leaves out: with two, 5 % of 10 MiB."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:2])
    yield
    os.sched_setaffinity(0, allowed)


@pytest.fixture(scope="module")
def metrics(engine, two_processors) -> dict[str, dict[str, dict[str, Any]]]:
    suite, run = engine.folder / "known.yaml", engine.folder / "known"
    suite.write_text(SUITE)
    assert main(["run", str(suite), "--out", str(run), "--track", "off"]) == 0
    results = engine.results(run)
    return {name: {each["name"]: each for each in result["metrics"]} for name, result in results.items()}


@pytest.mark.parametrize("mib", [10, 40])
def test_what_a_call_needs_is_known_within_a_twentieth(metrics, mib):
    """A first call also maps pages of libraries, 9 MiB of torch's alone, which the call has not allocated."""
    peak = metrics[f"needs-{mib}"]["call-memory"]
    assert peak["flags"] == []
    assert peak["value"] == pytest.approx(mib * MIB, rel=0.05)


def test_a_small_leak_is_always_named(metrics):
    growth = metrics["keeps-2"]["memory-growth"]
    assert growth["value"] == pytest.approx(2 * MIB, rel=0.05)
    assert growth["flags"] == metrics["keeps-2"]["peak-memory"]["flags"] == ["leak"]


@pytest.mark.parametrize("name", ["churns", "needs-10", "needs-40"])
def test_what_only_the_allocator_holds_is_not_a_leak(metrics, name):
    growth = metrics[name]["memory-growth"]
    assert growth["flags"] == []
    assert growth["value"] < MIB / 4
