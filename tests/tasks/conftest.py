"""Tiny adapters under their names, and cells and contexts made of them."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # cards name "tiny_adapters:Class"

from tiny_adapters import CARDS

from arbench import registry
from arbench.spec.cell import make_cell
from arbench.spec.suite import Settings
from arbench.tasks import catalogue
from arbench.tasks.context import SHARED, WorkerContext
from arbench.tasks.index import TASK_INDEX


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "cards", lambda: CARDS)
    monkeypatch.setattr(registry, "origins", lambda: dict.fromkeys(CARDS, "arbench"))
    shared = dict(SHARED) | {"features": "tiny_adapters:Pooled"}
    monkeypatch.setattr("arbench.tasks.context.SHARED", shared)
    monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cell():
    def build(adapter, task, **settings):
        return make_cell(
            CARDS[adapter],
            task,
            Settings(**settings),
            None,
            {},
            task_version=1,
            data={},
            machine="here",
        )

    return build


@pytest.fixture
def context():
    made = WorkerContext("cpu", {}, lambda done: None)
    yield made
    made.close()


@pytest.fixture
def through(context):
    """All units of a cell measured, each stored and read as the runner does, and finished; metrics are catalogued."""
    from arbench.images import pack, unpack

    def run(cell, task=None):
        info = TASK_INDEX[cell.task.task]
        task = task or registry.resolve(info.implementation)()
        units = [unpack(pack(task.measure(cell, unit, context))) for unit in info.units(cell.task)]
        finished = task.finish(cell, units, context)
        for metric in finished.metrics:
            known = catalogue.find(cell.task.task, metric.name)
            assert known is not None, metric.name
            assert (metric.unit, metric.direction) == (known.unit, known.direction), metric.name
        return finished, units

    return run
