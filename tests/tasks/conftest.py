"""Tiny adapters under their names, and cells and contexts made of them."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # cards name "tiny_adapters:Class"

from tiny_adapters import CARDS

from arbench import registry
from arbench.evaluate.conventions import conventions
from arbench.features.recipes import RECIPES, Recipe
from arbench.features.unit_features import UnitFile
from arbench.images import pack
from arbench.measure import device_rates
from arbench.spec.cell import make_cell
from arbench.spec.suite import Settings
from arbench.spec.task import tasks
from arbench.tasks.context import WorkerContext

POOLED = Recipe(
    "efficientnet-lite0", {"pooled": 12}, (), "tiny_adapters:load_pooled", "means of quarters, by channel", 0.0
)


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
    monkeypatch.setitem(RECIPES, POOLED.name, POOLED)
    monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(device_rates, "measured", lambda device, dtype: device_rates.Rates(1e9, 1e10))
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path / "weights"))


@pytest.fixture
def cell():
    def build(adapter, task, **settings):
        return make_cell(CARDS[adapter], task, Settings(**settings), None, {}, data={}, machine="here")

    return build


@pytest.fixture
def context():
    made = WorkerContext("cpu", {}, lambda done: None)
    yield made
    made.close()


@pytest.fixture
def through(context, tmp_path):
    """All units of a cell measured, each stored and read as the worker does, and finished; every number is known."""

    def run(cell, work=None):
        definition = tasks()[cell.task.task]
        work = work or registry.resolve(definition.work)()
        folder = tmp_path / "units" / cell.result_id
        folder.mkdir(parents=True, exist_ok=True)
        units = []
        for unit in definition.units(cell.task):
            path = folder / f"{unit.name}.npz"
            with torch.inference_mode():
                arrays = work.measure(cell, unit, context)
            path.write_bytes(pack(arrays))
            units.append(UnitFile(path))
        finished = work.finish(cell, units, context)
        check_known(definition, finished.metrics)
        return finished, units

    return run


def check_known(definition, metrics):
    """Each number has a key of its own, and the unit and direction of the definition, or else of its convention."""
    keys = [metric.key for metric in metrics]
    assert len(set(keys)) == len(keys)
    for metric in metrics:
        known = definition.info(metric.name)
        if known is None:
            (known,) = (each for each in conventions()[metric.convention].definitions if each.metric == metric.name)
        assert (metric.unit, metric.direction) == (known.unit, known.direction), metric.name
        assert metric.how, metric.name
