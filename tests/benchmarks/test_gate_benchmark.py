"""The gate's simulation keeps what docs/gate-simulation.md promises."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "gate.py"
SPEC = importlib.util.spec_from_file_location("gate_benchmark", PATH)
assert SPEC is not None
assert SPEC.loader is not None
gate = importlib.util.module_from_spec(SPEC)
__import__("sys").modules["gate_benchmark"] = gate
SPEC.loader.exec_module(gate)


@pytest.mark.parametrize(("session", "least"), list(zip(gate.SESSIONS, (95, 90, 50), strict=True)))
def test_false_alarms_and_what_is_found(session, least):
    machine = gate.Machine(np.random.default_rng(1), session)
    _, alarms, _, pessimistic, _ = gate.timing(machine, 0.0, 1000)
    assert max(alarms, pessimistic) <= 0.5
    _, found, _, found_pessimistic, _ = gate.timing(machine, 0.05, 1000)
    assert min(found, found_pessimistic) >= least


def test_quality_shifts_of_two_seed_sds():
    draw = np.random.default_rng(1)
    for correlation in gate.CORRELATIONS:
        assert gate.quality(draw, correlation, 0.0, 4000)[0] <= 0.5
        assert gate.quality(draw, correlation, 2.0, 4000)[0] >= 90
