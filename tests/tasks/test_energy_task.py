"""The energy task on a counter of known power: joules an image, gross and net, grams of CO2, and null with a reason."""

from contextlib import contextmanager

import numpy as np
import pytest

from arbench.measure.clock import FakeClock
from arbench.measure.energy import Counter
from arbench.measure.guard import Reading
from arbench.measure.nvml import Unavailable
from arbench.spec.task import tasks
from arbench.tasks.energy import Energy, work
from arbench.tasks.energy.work import EnergyWork


class Device:
    """Takes 50 W always and 100 J more for each call, which is seen by its progress; a call takes 2 s."""

    def __init__(self, monkeypatch, after=50.0):
        self.clock, self.extra, self.after = FakeClock(), 0.0, after
        self.waited = 0
        whole_call = work.whole_call

        def watched(*given):
            call = whole_call(*given)

            def made(ids):
                call(ids)
                self.clock.advance(2)
                self.extra += 100 + self.drift * len(self.ids)
                self.ids.append(ids)

            return made

        self.ids, self.drift = [], 0.0
        monkeypatch.setattr(work, "whole_call", watched)

    def sleep(self, seconds):
        self.clock.advance(seconds)
        self.waited += 1
        if self.waited % 2 == 0:
            self.extra += (self.after - 50) * seconds

    @contextmanager
    def counter(self, device):
        yield Counter(lambda: 50 * self.clock.now() + self.extra, "a device")

    def work(self):
        return EnergyWork(lambda device: self.clock, self.counter, self.sleep, lambda: Reading(0, 0, 0, 0))


def by_key(finished):
    return {(metric.name, metric.at["batch"]): metric for metric in finished.metrics}


@pytest.mark.parametrize("adapter", ["raster/tinted", "tokenizers/blocks"])
def test_joules_of_an_image(cell, through, monkeypatch, adapter):
    device = Device(monkeypatch)
    finished, _ = through(cell(adapter, Energy(batches=(1, 4), seconds=10, intensity=360)), device.work())
    metrics = by_key(finished)
    expected = {"energy-per-image": 200, "net-energy-per-image": 100, "carbon-per-image": 0.02}
    for name, value in expected.items():
        assert metrics[name, 1].value == pytest.approx(value)
        assert metrics[name, 4].value == pytest.approx(value / 4)
    assert metrics["power", 4].value == pytest.approx(100)
    assert metrics["idle-power", 1].value == pytest.approx(50)
    assert metrics["energy-per-image", 4].n == 20
    assert metrics["energy-per-image", 4].how.startswith("energy of the calls over images; 5 whole calls in 10.0 s")
    assert "a device" in metrics["energy-per-image", 4].how
    assert "360 g of CO2 equivalent a kWh" in metrics["carbon-per-image", 1].how
    assert metrics["carbon-per-image", 1].at == {"batch": 1, "intensity": 360}, "no column with another intensity's"
    assert {metric.flags for metric in finished.metrics} == {()}
    assert device.ids[:8] == [range(index, index + 1) for index in range(8)]
    assert set(expected) <= {info.name for info in tasks()["energy"].metrics}


def test_the_interval_is_over_blocks_and_idle_that_differs_is_flagged(cell, through, monkeypatch):
    device = Device(monkeypatch, after=60)
    device.drift = 1.0
    finished, _ = through(cell("raster/tinted", Energy(batches=(1,))), device.work())
    metrics = by_key(finished)
    joules = 200 + np.arange(3, 8)  # three calls warm up
    gross = metrics["energy-per-image", 1]
    assert gross.value == pytest.approx(joules.mean())
    assert gross.interval.high - gross.value == pytest.approx(2.776445 * joules.std(ddof=1) / 5**0.5)
    assert gross.interval.method == "Student's t over 5 blocks of calls"
    assert gross.flags == ()
    assert metrics["net-energy-per-image", 1].value == pytest.approx(joules.mean() - 2 * 55)
    assert metrics["net-energy-per-image", 1].flags == metrics["idle-power", 1].flags == ("idle_differs",)
    assert metrics["idle-power", 1].extras == {"before": 50, "after": 60}
    assert ("carbon-per-image", 1) not in metrics


def test_without_a_counter_all_is_null_and_nothing_is_loaded(cell, through, monkeypatch):
    @contextmanager
    def none(device):
        raise Unavailable("no counter")
        yield

    monkeypatch.setattr("arbench.tasks.energy.work.whole_call", lambda *given: pytest.fail("it was loaded"))
    finished, _ = through(cell("raster/tinted", Energy(batches=(1, 4), intensity=100)), EnergyWork(counter_for=none))
    assert len(finished.metrics) == 10
    assert {(metric.value, metric.reason, metric.n) for metric in finished.metrics} == {(None, "no counter", 0)}
