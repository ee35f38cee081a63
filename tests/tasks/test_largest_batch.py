"""The search for the largest batch: its rule, what becomes of it, and how an attempt ends."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbench.errors import CellError
from arbench.spec.task import tasks
from arbench.tasks.memory import Memory, attempt
from arbench.tasks.memory.attempt import NEAR, largest_fit
from arbench.tasks.memory.work import MemoryWork


@given(st.integers(0, 5000), st.integers(1, 4096))
def test_the_search_finds_what_fits_with_few_attempts(holds, most):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= holds

    low, high = largest_fit(fits, most)
    assert low <= holds
    assert max(tried) <= most
    if holds >= most:
        assert (low, high) == (most, 0)
    else:
        assert low <= holds < high
        assert high - low <= max(1, NEAR * low)
    assert len(tried) == len(set(tried)) <= 20


def searched(cell, through, holds, **changes):
    limits = []

    def attempt(cell, batch, device, limit, weights):
        limits.append(limit)
        return batch <= holds

    task = Memory(batches=(1,), largest=64, **changes)
    finished, _ = through(cell("raster/tinted", task), MemoryWork(attempt=attempt))
    return next(metric for metric in finished.metrics if metric.name == "largest-batch"), limits


def test_the_number_says_its_limit_and_what_did_not_fit(cell, through):
    found, limits = searched(cell, through, 20, limit=2.0)
    assert found.value == 20
    assert found.how == f"bisection over {len(limits)} fresh processes; limit 2 GB; 21 did not fit"
    assert (found.flags, set(limits)) == ((), {2_000_000_000})


def test_a_search_that_nothing_ends_is_flagged_and_one_that_nothing_fits_is_null(cell, through):
    found, limits = searched(cell, through, 1000)
    assert (found.value, found.flags) == (64, ("search_ended",))
    assert limits[0] > 0  # of what is free on a CPU
    found, _ = searched(cell, through, 0, limit=1.5)
    assert (found.value, found.reason) == (None, "one image does not fit into 1.5 GB")


def test_no_search_unless_asked_for():
    assert [unit.start for unit in tasks()["memory"].units(Memory(batches=(1, 4)))] == [1, 4]
    assert [unit.start for unit in tasks()["memory"].units(Memory(batches=(1, 4), largest=9))] == [1, 4, 0]


@pytest.mark.parametrize(("status", "fits"), [(0, True), (75, False), (-9, False)])
def test_how_a_process_ended(monkeypatch, cell, status, fits):
    ended = SimpleNamespace(returncode=status, stderr="")
    monkeypatch.setattr(attempt.subprocess, "run", lambda *args, **kwargs: ended)
    assert attempt.attempt(cell("raster/tinted", Memory()), 4, "cpu", None, {}) is fits


def test_a_process_that_fails_otherwise_is_an_error(monkeypatch, cell):
    ended = SimpleNamespace(returncode=1, stderr="Traceback\nValueError: no\n")
    monkeypatch.setattr(attempt.subprocess, "run", lambda *args, **kwargs: ended)
    with pytest.raises(CellError, match="a call of batch 4 failed"):
        attempt.attempt(cell("raster/tinted", Memory()), 4, "cpu", None, {})
