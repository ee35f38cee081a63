"""Workers, forked by the nursery or started from scratch: they come up, they end, and how they ended is known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from arbench.run.executor import Job, Slot
from arbench.run.local import LocalExecutor
from arbench.run.nursery import Nursery, ahead
from arbench.run.plan import make_plan
from arbench.run.pool import WorkerProcess, death
from arbench.run.replay import CellState
from arbench.run.session import _begin_ahead
from arbench.spec.suite_file import parse


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def worker(folder: Path, nursery: Nursery | None) -> WorkerProcess:
    born = WorkerProcess(Slot("cpu", 1), folder, {}, folder / "log.txt", nursery)
    assert (born.hear() or {}).get("kind") == "ready", (folder / "log.txt").read_text()
    assert born.pid is not None
    assert psutil.pid_exists(born.pid)
    return born


def processes(nursery: Nursery) -> list[psutil.Process]:
    """The workers of a nursery, oldest first."""
    found = [each for each in psutil.Process().children() if "arbench.run.nursery" in " ".join(each.cmdline())]
    return sorted((child for each in found for child in each.children()), key=psutil.Process.create_time)


@pytest.mark.parametrize("forked", [True, False])
def test_a_worker_leaves_when_its_pipe_closes(tmp_path, nursery, forked):
    assert worker(tmp_path, nursery if forked else None).reap() == 0


@pytest.mark.parametrize("forked", [True, False])
def test_a_worker_ends_when_asked_and_the_log_has_its_stack(tmp_path, nursery, forked):
    born = worker(tmp_path, nursery if forked else None)
    born.terminate("timeout", grace=60.0)
    assert born.hear() is None
    assert born.reap() == -signal.SIGTERM
    assert "arbench/run/worker.py" in (tmp_path / "log.txt").read_text()


def test_workers_of_one_nursery_are_processes_and_sessions_of_their_own(tmp_path, nursery):
    born = [worker(tmp_path, nursery) for _ in range(3)]
    pids = [process.pid for process in processes(nursery)]
    assert len(set(pids)) == 3
    assert [os.getsid(pid) for pid in pids] == pids
    os.kill(pids[1], signal.SIGKILL)
    assert born[1].hear() is None
    assert born[1].reap() == -signal.SIGKILL
    assert death(-signal.SIGKILL)[0] == "error"
    assert death(-signal.SIGKILL, "the counter rose")[0] == "oom"
    assert [each.reap() for each in (born[2], born[0])] == [0, 0]


def test_a_signal_to_everybody_is_the_supervisors_to_answer(tmp_path, nursery):
    born = worker(tmp_path, nursery)
    (parent,) = {process.ppid() for process in processes(nursery)}
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(parent, number)
    time.sleep(0.2)
    again = worker(tmp_path, nursery)
    assert [born.reap(), again.reap()] == [0, 0]


def test_workers_do_not_outlive_a_killed_nursery_and_the_next_worker_gets_a_new_one(tmp_path):
    nursery = Nursery()
    born = worker(tmp_path, nursery)
    (process,) = processes(nursery)
    os.kill(process.ppid(), signal.SIGKILL)
    assert born.hear() is None
    assert born.reap() == -signal.SIGKILL
    process.wait(10.0)
    assert worker(tmp_path, nursery).reap() == 0
    nursery.close()
    assert not processes(nursery)


def test_a_nursery_that_was_begun_ahead_has_the_workers_and_one_that_nobody_needs_ends_at_once(tmp_path):
    with ahead("local") as nursery:
        process = nursery._process
        assert worker(tmp_path, nursery).reap() == 0
        assert nursery._process is process
    with ahead("local") as nursery:  # a suite is wrong: nobody waits for what it imports
        process, begin = nursery._process, time.monotonic()
    assert process.returncode == -signal.SIGKILL
    assert time.monotonic() - begin < 1.0
    with ahead("ray") as nursery:
        assert nursery is None


def test_what_a_nursery_said_that_could_not_start_is_in_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr("arbench.run.nursery.START", "raise ImportError('torch is broken')")
    nursery = Nursery()
    nursery.begin(os.environ)
    born = WorkerProcess(Slot("cpu", 1), tmp_path, {}, tmp_path / "log.txt", nursery)
    assert born.hear() is None
    assert born.reap() == 1
    assert "ImportError: torch is broken" in (tmp_path / "log.txt").read_text()
    nursery.close()


def test_what_is_loaded_is_there_before_the_next_worker_and_starts_no_thread(tmp_path):
    nursery = Nursery()
    nursery.load(["scipy.stats"])
    born = worker(tmp_path, nursery)
    (process,) = processes(nursery)
    assert any("scipy/stats/" in each.path for each in process.memory_maps())
    assert process.parent().num_threads() == 1, "a process with threads cannot fork safely"
    assert born.reap() == 0
    nursery.close()


SUITE = """
suite: two
title: Two
adapters: [raster/llamagen-mini, next_scale/var-mini]
tasks:
  - speed: {batches: [1]}
  - memory: {batches: [1]}
"""


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    found = LocalExecutor(tmp_path, {}, [Slot("cpu", 1)], Slot("cpu", 1), 1.0)
    yield found
    found.close()


def jobs(task: str) -> list[Job]:
    return [Job(each, each.units[0]) for each in make_plan(parse(SUITE, "s.yaml", ()), task_names=[task]).cells]


def test_a_worker_begun_ahead_is_that_of_its_cell_alone(tmp_path, executor):
    first, second = jobs("memory")
    executor.ahead(second)
    spare = executor._spare[1]
    executor.ahead(first)
    assert executor._spare[1] is spare, "one at a time"
    assert executor.workers == []
    assert executor.start(executor._alone, second) is spare
    assert executor.workers == [spare]
    executor.end(executor.workers)
    executor.ahead(second)
    other = executor._spare[1]
    born = executor.start(executor._alone, first)
    assert born is not other
    assert other._process.poll() is not None, "a worker for another cell is ended"


def test_a_worker_begun_ahead_that_nobody_takes_is_ended(executor):
    executor.ahead(jobs("memory")[0])
    process = executor._spare[1]._process
    executor.close()
    assert process.poll() is not None


def test_none_is_begun_ahead_for_a_cell_that_is_timed(executor):
    executor.ahead(jobs("speed")[0])
    assert executor._spare is None


def cell(task: str, number: int) -> CellState:
    return CellState(jobs(task)[number].planned)


@pytest.mark.parametrize(
    ("present", "after", "begun"),
    [("memory", "memory", True), ("speed", "memory", False), ("memory", "speed", False), ("speed", "speed", False)],
)
def test_only_beside_a_cell_that_is_not_timed(present, after, begun, executor):
    _begin_ahead(executor, cell(present, 0), cell(after, 1))
    assert (executor._spare is not None) is begun
    _begin_ahead(executor, cell(present, 0), None)


SUPERVISOR = """
import os, time
from arbench.run.nursery import Nursery
nursery = Nursery()
nursery.begin(os.environ)
print(nursery._process.pid, flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("after", [0.0, 0.05, 0.3, 1.0])
def test_a_nursery_ends_with_a_supervisor_that_is_killed_while_it_starts(after):
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, text=True)
    with supervisor.stdout as said:
        process = psutil.Process(int(said.readline()))
        time.sleep(after)
        supervisor.kill()
        supervisor.wait()
    killed = time.monotonic()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() - killed < 1.0, "it outlives its supervisor"
        time.sleep(0.01)
