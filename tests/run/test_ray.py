"""Runs on a Ray cluster: two nodes on this machine, one of which is killed; what is refused before anything begins."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arbench.cli.main import main
from arbench.data.readers.mnist import mnist5k
from arbench.run import ray_executor, ray_features, session
from arbench.run.device import Place
from arbench.run.executor import Job, Slot, Worker
from arbench.run.ray_cluster import Node, different
from arbench.run.ray_executor import NodeSlot, RayExecutor

NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}


@pytest.fixture(scope="module")
def cluster(engine) -> Iterator[Any]:
    """A head node and another one, with a core each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**engine.environment(), "FARM_MEETS": "2", "RAY_USAGE_STATS_ENABLED": "0"}.items():
            patch.setenv(name, value)
        found = cluster_utils.Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        found.add_node(**NODE)
    yield found
    found.shutdown()


def test_a_node_that_is_killed_changes_no_number(engine, cluster, capsys):
    suite, here, there = (
        engine.suite(["meets", "talks", "raises"], n=80),
        engine.folder / "here",
        engine.folder / "there",
    )
    begun = len(engine.called())
    killed: list[str] = []

    def kill() -> None:
        """The second node, once both have a unit in hand."""
        until = time.monotonic() + 120.0
        while time.monotonic() < until:
            if len({words[3] for words in engine.called()[begun:] if words[0] == "unit"}) > 1:
                (node,) = cluster.worker_nodes
                cluster.remove_node(node, allow_graceful=False)
                killed.append(node.node_id[:8])
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    arguments = ["run", str(suite), "--out", str(there), "--track", "off", "--executor", "ray"]
    code = main([*arguments, "--address", cluster.address])
    killer.join()
    out = capsys.readouterr().out
    assert (code, len(killed)) == (4, 1), out
    records = engine.records(there)
    (lost,) = (record for record in records if record["kind"] == "lost")
    assert killed[0] in lost["node"]
    assert f"unit {lost['unit']} is done again" in out.replace("\n", " ")
    (again,) = (
        record
        for record in records
        if record["kind"] == "unit" and record["unit"] == lost["unit"] and record["cell"] == lost["cell"]
    )
    assert killed[0] not in again["node"]
    raised = engine.results(there)["raises"]
    assert (raised["outcome"], raised["reason"]) == ("error", "ValueError: the secret is 42")
    talk = engine.results(there)["talks"]
    assert "said the model\n" in (there / "cells" / talk["result_id"] / "log.txt").read_text()
    assert talk["provenance"]["executor"] == "ray"

    assert main(["run", str(suite), "--out", str(here), "--track", "off", "--workers", "2"]) == 4
    assert engine.values(there) == engine.values(here)
    one, two = (
        {(each["cell"], each["unit"]): each["digest"] for each in engine.records(run) if each["kind"] == "unit"}
        for run in (here, there)
    )
    assert {key: one[key] for key in two if key in one} == two
    assert len(two) >= 20

    assert main(["resume", str(there), "--executor", "local", "--track", "off"]) == 4  # what failed, tried here
    assert [each["executor"] for each in engine.records(there) if each["kind"] == "session"] == ["ray", "local"]
    assert engine.values(there) == engine.values(here)


def test_a_score_is_the_same_bits_though_a_node_is_killed(cluster, tmp_path, monkeypatch, capsys, caplog):
    for name, source, count in (("samples", mnist5k("heldout"), 300), ("reference", mnist5k("train"), 64)):
        np.savez(tmp_path / f"{name}.npz", arr_0=source.load(range(count)).transpose(0, 2, 3, 1))
    nodes = [cluster.add_node(**NODE)]
    networks: list[ray_features.RayNetworks] = []
    make = ray_features.RayNetworks

    def noted(*given: Any) -> ray_features.RayNetworks:
        networks.append(make(*given))
        return networks[-1]

    monkeypatch.setattr(ray_features, "RayNetworks", noted)
    begun = make.begin

    def with_both(self: ray_features.RayNetworks, *given: Any) -> Any:
        """The first pictures wait for both nodes: one is done with all of them before a slow other has come up. On a
        busy machine Ray may give a new node up."""
        monkeypatch.setattr(make, "begin", begun)
        until = time.monotonic() + 240.0
        while len({host.node.id for host in self.hosts if host.ready}) < 2 and time.monotonic() < until:
            if any(each["NodeID"] == nodes[-1].node_id and not each["Alive"] for each in self.cluster.ray.nodes()):
                nodes.append(cluster.add_node(**NODE))
            self._look(0.1)
        return begun(self, *given)

    monkeypatch.setattr(make, "begin", with_both)
    killed: list[str] = []

    def kill() -> None:
        """The second node, once both have pictures in hand."""
        until = time.monotonic() + 300.0
        while time.monotonic() < until:
            if networks and len({host.node.id for host in networks[0].hosts if host.tasks}) > 1:
                cluster.remove_node(nodes[-1], allow_graceful=False)
                killed.append(nodes[-1].node_id[:8])
                return
            time.sleep(0.02)

    def score(out: str, *more: str) -> tuple[list[Any], dict[str, bytes], str]:
        """Numbers, files of features by name, and the executor."""
        monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path / f"cache of {out}"))
        monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path / "none"))
        samples, reference, folder = tmp_path / "samples.npz", tmp_path / "reference.npz", tmp_path / out
        arguments = ["score", str(samples), "--reference", str(reference), "--out", str(folder), "--device", "cpu"]
        assert main([*arguments, "--metric", "kid", *more]) == 0, capsys.readouterr().err
        result = json.loads(next(folder.glob("cells/*/result.json")).read_bytes())
        kept = {path.name: path.read_bytes() for path in folder.glob("features/*/*") if path.suffix != ".json"}
        return result["metrics"], kept, result["provenance"]["executor"]

    killer = threading.Thread(target=kill)
    killer.start()
    there = score("there", "--executor", "ray", "--address", cluster.address)
    killer.join()
    (lost,) = killed
    assert lost in caplog.text
    assert "its images are done again elsewhere" in caplog.text
    here = score("here")
    assert there[:2] == here[:2]
    assert any(name.endswith(".f32") for name in here[1])
    assert (there[2], here[2]) == ("ray", "local")


def test_a_job_that_loses_its_machine_again_and_again_has_failed(engine, monkeypatch):
    class Losing:
        """Loses each worker at once."""

        def __init__(self, *_: object) -> None:
            self.workers: list[Worker] = []

        def slots(self, *, alone: bool) -> list[Slot]:
            return [Slot("cpu", 1)]

        def start(self, slot: Slot, job: Job) -> Worker:
            self.workers.append(Worker(slot))
            return self.workers[-1]

        def give(self, worker: Worker, job: Job, **_: object) -> None:
            worker.take(job)

        def events(self, wake: int) -> list[tuple[Worker, dict[str, Any]]]:
            gone, self.workers = self.workers, []
            return [(worker, {"kind": "lost", "node": "n1", "reason": "power", "counts": True}) for worker in gone]

        def end(self, workers: object) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr(session, "LocalExecutor", Losing)
    run = engine.folder / "losing"
    assert main(["run", str(engine.suite(["steady"], n=20)), "--out", str(run), "--track", "off"]) == 3
    result = engine.results(run)["steady"]
    assert (result["outcome"], result["reason"]) == ("error", "its machine was lost 3 times; the last was n1: power")
    assert [record["unit"] for record in engine.records(run) if record["kind"] == "lost"] == ["000000-000008"] * 3


def executor(nodes: list[Node], device: str, most: int | None = None, gigabytes: float = 1.0) -> RayExecutor:
    cluster: Any = SimpleNamespace(nodes=lambda device: nodes)
    return RayExecutor(cluster, None, "run", {}, Place(device, "H100"), most, gigabytes, 1.0)  # type: ignore[arg-type]


def test_workers_have_a_gpu_or_a_core_each_and_what_is_measured_a_node_of_its_own():
    big = Node("a", "big", "H100", False, cores=64, cpus=64, gpus=8, memory=int(100e9))
    small = Node("b", "small", "L4", True, cores=8, cpus=8, gpus=1, memory=int(3e9))
    slots = executor([big, small], "cuda").slots(alone=False)
    assert [(slot.node, slot.device, slot.gpus, slot.threads) for slot in slots[:3]] == [
        ("a", "cuda:0", 1, 8),
        ("b", "cuda:0", 1, 8),
        ("a", "cuda:0", 1, 8),
    ]
    assert len(slots) == 9
    slots = executor([big, small], "cpu").slots(alone=False)
    assert [slot.node for slot in slots] == ["a", "b"] * 3 + ["a"] * 5  # three cells fit into the small one
    assert {(slot.cpus, slot.gpus, slot.memory) for slot in slots} == {(1, 0, 10**9)}
    assert len(executor([big, small], "cpu", most=4).slots(alone=False)) == 4
    # the plan is of an H100, so nothing is timed on the other
    assert executor([small, big], "cuda").slots(alone=True) == [NodeSlot("cuda:0", 64, "a", "big", 64, 8, 0)]
    assert executor([small], "cuda").slots(alone=True) == []


def test_a_run_waits_for_nodes_but_not_for_ever(monkeypatch):
    empty = executor([], "cpu")
    assert empty.slots(alone=False) == []
    monkeypatch.setattr(ray_executor, "NO_NODE_SECONDS", -1.0)
    with pytest.raises(Exception, match="has no node left"):
        empty.slots(alone=True)


def test_what_cannot_work_is_refused_before_there_is_a_folder(engine, monkeypatch, capsys):
    run = engine.folder / "refused"
    arguments = ["run", str(engine.suite(["steady"])), "--out", str(run), "--track", "off"]
    assert main([*arguments, "--address", "127.0.0.1:9"]) == 2
    assert "add --executor ray" in capsys.readouterr().err
    assert main([*arguments, "--executor", "slurm"]) == 2
    assert "known: local, ray" in capsys.readouterr().err
    assert main([*arguments, "--executor", "ray", "--address", "127.0.0.1:9"]) == 3
    assert "cannot connect to the Ray cluster at 127.0.0.1:9" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*arguments, "--executor", "ray"]) == 3
    assert "pip install 'arbench[ray]'" in capsys.readouterr().err
    assert not run.exists()


def test_nodes_of_other_software_are_told():
    ours = {"torch": "2.11.0", "numpy": "2.3"}
    assert different(ours, {"torch": "2.11.0+cu128", "numpy": "2.3"}) == ""
    assert different(ours, {"torch": "2.10.0"}) == "numpy none, not 2.3, torch 2.10.0, not 2.11.0"
