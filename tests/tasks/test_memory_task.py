"""The memory task on a meter with known readings, and on this process with allocations of known size."""

import mmap

import numpy as np
import pytest
import torch
from tiny_adapters import CARDS, Tinted, card

from arbench import registry
from arbench.measure.memory import HostMeter
from arbench.protocols import NO_PROBE, Checkpoint
from arbench.spec.task import tasks
from arbench.tasks.context import WorkerContext
from arbench.tasks.memory import Memory
from arbench.tasks.memory.work import MemoryWork

MIB = 1 << 20


AFTER = (150, 160, 163, 165)
"""What is in use after each call."""


class Readings:
    """A meter that reads from lists, and says whether it could reset. `files`: pages of files that the calls touch."""

    def __init__(self, units, resets, files=0):
        """Of each unit: before loading, after it, after each call, peak while loading, peak."""
        self._current = iter([each for unit in units for each in (*unit[:2], unit[2][-1] + files)])
        self._own = iter([each for unit in units for each in (unit[1], *unit[2])])
        self._peaks = iter([each for unit in units for each in (unit[3], unit[4] + files)])
        self.resets = resets

    def settle(self):
        pass

    def current(self):
        return next(self._current)

    def own(self):
        return next(self._own)

    def peak(self):
        return next(self._peaks)

    def reset(self):
        return self.resets


def by_key(finished):
    """By name, and batch size where there is one."""
    return {(metric.name, *metric.at.values()): metric for metric in finished.metrics}


@pytest.mark.parametrize("adapter", ["raster/tinted", "raster/direct", "tokenizers/blocks", "tokenizers/continuous"])
def test_readings_become_metrics(cell, through, adapter):
    meter = Readings([(100, 150, AFTER, 180, 200), (150, 150, AFTER, 150, 450)], resets=True)
    finished, _ = through(cell(adapter, Memory(batches=(1, 4))), MemoryWork(lambda device: meter))
    metrics = by_key(finished)
    expected = {
        ("baseline-memory",): 100,
        ("weights-memory",): 50,
        ("peak-memory-load",): 180,
        ("peak-memory", 1): 200,
        ("call-memory", 1): 50,
        ("peak-memory", 4): 450,
        ("call-memory", 4): 300,
        ("memory-growth", 1): 2.5,
        ("memory-growth", 4): 2.5,
        ("weights-file",): None,
    }
    assert {name: metric.value for name, metric in metrics.items()} == expected
    assert {metric.unit for metric in finished.metrics} == {"B"}
    assert {metric.measure for metric in finished.metrics} == {"memory"}
    assert {metric.direction for metric in finished.metrics} == {"lower"}
    assert metrics["weights-file",].reason == "the adapter has no weight file"
    assert metrics["peak-memory", 4].flags == ()


def test_peaks_that_cannot_be_told_apart_are_flagged(cell, through):
    meter = Readings([(100, 150, AFTER, 180, 200), (150, 150, AFTER, 200, 200)], resets=False)
    finished, _ = through(cell("raster/tinted", Memory(batches=(4, 1))), MemoryWork(lambda device: meter))
    metrics = by_key(finished)
    assert metrics["peak-memory", 4].flags == ("peak_of_process",)
    assert metrics["peak-memory", 1].flags == ("after_larger_batch", "peak_of_process")


def test_pages_of_files_are_not_allocations_of_a_call(cell, through):
    meter = Readings([(100, 150, AFTER, 180, 200)], resets=True, files=90)
    finished, _ = through(cell("raster/tinted", Memory(batches=(1,))), MemoryWork(lambda device: meter))
    metrics = by_key(finished)
    assert metrics["peak-memory", 1].value == 290
    assert metrics["call-memory", 1].value == 50
    assert metrics["memory-growth", 1].value == 2.5


@pytest.mark.parametrize(
    ("steps", "calls", "leak"),
    [
        ([10, *[2] * 8], 10, True),
        ([10, *[0, 4] * 4], 10, True),  # the system hands out pages in twos
        ([10, *[300] * 8], 10, True),
        ([10, 3, 2, 3, 2, -4, 3, 2, 3], 7, False),
        ([10, 3, 2, 3, 2, 3, 2, 3, -4], 10, False),
        ([10, 3, 2, 0, 0], 6, False),  # two steps by chance were a leak
        ([10, 0, 10, 0, 0], 6, False),  # once is not growth
        ([150, 0, 0], 4, False),  # what the second call keeps is for the third
        ([10, -1, 3, 0, 0], 6, False),
        ([10, 0.9, 0.9], 4, False),
    ],
)
def test_memory_that_grows_with_each_call_is_named(cell, through, steps, calls, leak):
    after = [int(each * MIB) for each in np.cumsum([150, *steps])]
    meter = Readings([(0, 100 * MIB, after, 0, 200 * MIB)], resets=True)
    finished, _ = through(cell("raster/tinted", Memory(batches=(1,))), MemoryWork(lambda device: meter))
    metrics = by_key(finished)
    flags = ("leak",) if leak else ()
    assert metrics["memory-growth", 1].flags == flags
    assert metrics["peak-memory", 1].flags == flags, "the number that a summary shows"
    assert metrics["peak-memory", 1].n == calls, "a leak takes many to tell"


def test_a_leak_is_told_at_any_peak(cell, through):
    after = [100_000 * MIB + 2 * MIB * index for index in range(10)]
    meter = Readings([(0, 90_000 * MIB, after, 0, 110_000 * MIB)], resets=True)
    finished, _ = through(cell("raster/tinted", Memory(batches=(1,))), MemoryWork(lambda device: meter))
    assert by_key(finished)["peak-memory", 1].flags == ("leak",)


class Leaking(Tinted):
    """Keeps 8 MiB of each call."""

    def sample(self, request, sampling, *, probe=NO_PROBE):
        vars(self).setdefault("kept", []).append(pages(8 * MIB))
        return super().sample(request, sampling, probe=probe)


def test_a_leak_is_measured_and_named(cell, through, monkeypatch):
    monkeypatch.setitem(CARDS, "raster/leaking", card("raster/leaking", implementation="leaking:Leaking"))
    resolve = registry.resolve
    monkeypatch.setattr(registry, "resolve", lambda name: Leaking if name == "leaking:Leaking" else resolve(name))
    finished, _ = through(cell("raster/leaking", Memory(batches=(1,))))
    growth = by_key(finished)["memory-growth", 1]
    assert growth.value == pytest.approx(8 * MIB, rel=0.05)
    assert growth.flags == ("leak",)


def pages(size: int) -> torch.Tensor:
    """Bytes straight from the system; malloc might hand out what this process has freed before."""
    return torch.from_numpy(np.frombuffer(mmap.mmap(-1, size), dtype=np.uint8)).fill_(1)


class Hungry(Tinted):
    """Keeps 48 MiB of weights, and needs 40 MiB a sample for a moment."""

    @classmethod
    def load(cls, card, spec, tokenizer):
        made = cls(card, spec, tokenizer)
        made.weights = pages(48 * MIB)
        return made

    def sample(self, request, sampling, *, probe=NO_PROBE):
        scratch = pages(len(request.sample_ids) * 40 * MIB)
        assert scratch[-1] == 1
        return super().sample(request, sampling, probe=probe)


def test_known_allocations_of_this_process(cell, monkeypatch, tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(bytes(12345))
    checkpoint = Checkpoint(file="weights", source="here")
    cards = CARDS | {"raster/tinted": card("raster/tinted", implementation="hungry:Hungry", checkpoint=checkpoint)}
    resolve = registry.resolve
    monkeypatch.setattr(registry, "cards", lambda: cards)
    monkeypatch.setattr(registry, "resolve", lambda path: Hungry if path == "hungry:Hungry" else resolve(path))
    context = WorkerContext("cpu", {"raster/tinted": str(file)})
    one = cell("raster/tinted", Memory(batches=(1, 3)))
    task = MemoryWork()
    with torch.inference_mode():
        units = [task.measure(one, unit, context) for unit in units_of(one)]
    metrics = by_key(task.finish(one, units, context))
    assert metrics["weights-file",].value == 12345
    assert metrics["weights-memory",].value == pytest.approx(48 * MIB, abs=4 * MIB)
    if "peak_of_process" not in metrics["peak-memory", 3].flags:
        assert metrics["call-memory", 1].value == pytest.approx(40 * MIB, abs=6 * MIB)
        assert metrics["call-memory", 3].value == pytest.approx(120 * MIB, abs=6 * MIB)
    assert metrics["peak-memory", 3].value >= metrics["baseline-memory",].value + 160 * MIB
    assert metrics["peak-memory", 3].value <= HostMeter().peak() + 8 * MIB


def units_of(one):
    return tasks()["memory"].units(one.task)


def test_random_weights_have_no_file(cell, through):
    finished, units = through(cell("raster/tinted", Memory(batches=(1,)), init="random"))
    assert by_key(finished)["weights-file",].reason == "random weights"
    assert units[0]["peak"].dtype == np.int64
