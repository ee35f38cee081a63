"""Out of memory: a smaller batch in a fresh process, recorded; a killed process is "oom" only if the kernel says so."""

from __future__ import annotations

import json

import pytest

from arbench.cli.main import main
from arbench.run.oom import evidence, kill_counters

SUITE = """
suite: drawn
adapters: [farm/greedy, farm/steady, farm/memory]
settings: {device: cpu}
tasks:
  - draw: {n: 24, batch: 8}
"""


@pytest.fixture(scope="module")
def drawn(engine):
    suite, run = engine.folder / "drawn.yaml", engine.folder / "drawn"
    suite.write_text(SUITE)
    before = len(engine.called())
    assert main(["run", str(suite), "--out", str(run), "--track", "off", "--workers", "1"]) == 4
    return engine, run, engine.called()[before:]


def test_memory_that_runs_out_is_answered_by_half_of_the_batch(drawn):
    farm, run, calls = drawn
    results = farm.results(run)
    assert {name: result["outcome"] for name, result in results.items()} == {
        "greedy": "ok",
        "steady": "ok",
        "memory": "oom",  # at a batch of one, too
    }
    halved = [(r["cell"], r["batch"]) for r in farm.records(run) if r["kind"] == "halved"]
    greedy, memory = results["greedy"]["result_id"], results["memory"]["result_id"]
    assert halved == [(greedy, 4), (greedy, 2), (memory, 4), (memory, 2), (memory, 1)]
    assert results["greedy"]["parameters"]["batch"] == 2
    assert results["steady"]["parameters"]["batch"] == 8
    numbers = {name: [m["value"] for m in result["metrics"]] for name, result in results.items()}
    assert numbers["greedy"] == numbers["steady"]
    assert all("smaller_batch" in metric["flags"] for metric in results["greedy"]["metrics"])
    assert not any("smaller_batch" in metric["flags"] for metric in results["steady"]["metrics"])
    at_work = [words[3] for words in calls if words[:2] == ["unit", "farm/greedy"]]
    assert len(set(at_work)) == 3  # a fresh process for each batch


def test_the_smaller_batch_is_kept_when_the_run_goes_on(drawn):
    farm, run, _ = drawn
    before = len(farm.called())
    assert main(["resume", str(run)]) == 4
    assert len([words for words in farm.called()[before:] if words[0] == "unit"]) == 8  # one by one, up to number 15
    assert len([r for r in farm.records(run) if r["kind"] == "halved"]) == 5


V1 = {
    "proc/self/cgroup": "4:cpu,memory:/job/7\n0::/\n",
    "sys/fs/cgroup/memory/job/7/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
    "proc/vmstat": "nr_free_pages 12\noom_kill 900\n",
}
V2 = {
    "proc/self/cgroup": "0::/job/7\n",
    "sys/fs/cgroup/job/7/memory.events": "low 0\noom 3\noom_kill {}\n",
    "proc/vmstat": "oom_kill 900\n",
}
NONE = {"proc/vmstat": "nr_free_pages 12\noom_kill {}\n"}


@pytest.mark.parametrize("files", [V1, V2, NONE], ids=["version 1", "version 2", "no group"])
def test_the_kernels_counters_are_the_evidence(tmp_path, files):
    def counted(count):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text.format(count))
        return kill_counters(tmp_path)

    before = counted(4)
    assert list(before.values()) == [4]
    assert evidence(before, counted(4)) == ""
    assert evidence(before, counted(5)).endswith("went from 4 to 5")
    assert evidence(before, {}) == ""


def test_a_machine_without_counters_gives_no_evidence(tmp_path):
    assert kill_counters(tmp_path) == {}
    assert json.dumps(kill_counters())  # of this machine: whatever it has can be read
