"""Energy by counters with known power: NVML's in millijoules, RAPL's that starts anew, idle taken off, and reasons."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from arbench.measure import energy, guard, memory, nvml
from arbench.measure.clock import FakeClock


class NVMLError(Exception):
    pass


def driver(**functions):
    """A module like pynvml, of one GPU."""
    return SimpleNamespace(
        **{
            "NVMLError": NVMLError,
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetHandleByUUID": {b"GPU-12ab": "handle"}.__getitem__,
        }
        | functions
    )


def refuse(*_):
    raise NVMLError("Insufficient Permissions")


@pytest.fixture
def plugged(monkeypatch):
    """Puts a driver in NVML's place."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12ab"))
    return lambda made: monkeypatch.setitem(sys.modules, "pynvml", made)


class Machine:
    """A clock, and power by what is done: 60 W when idle before, 80 W after, 300 W in calls of 0.5 s."""

    def __init__(self):
        self.clock, self.joules, self.called, self.closed = FakeClock(), 1e6, [], 0

    def sleep(self, seconds):
        self.clock.advance(seconds)
        self.joules += seconds * (80 if self.called else 60)

    def call(self, index):
        self.called.append(index)
        self.clock.advance(0.5)
        self.joules += 150

    def spend(self, counter, **rest):
        return energy.spend(
            self.call, 4, counter, self.clock, seconds=10, idle_seconds=3, warm_up=3, sleep=self.sleep, **rest
        )


def test_nvml_gross_and_net_of_idle(plugged):
    machine, shut = Machine(), []
    plugged(
        driver(
            nvmlDeviceGetTotalEnergyConsumption=lambda handle: {"handle": round(1e3 * machine.joules)}[handle],
            nvmlShutdown=lambda: shut.append(1),
        )
    )
    with energy.counter("cuda:0") as counter:
        assert counter.what.startswith("the GPU alone")
        spent = machine.spend(counter)
    assert shut == [1]
    assert machine.called == list(range(23)), "three to warm up, then 10 s of calls with inputs of their own"
    assert (spent.calls, spent.images, spent.seconds) == (20, 80, 10)
    assert spent.gross == pytest.approx(3000)
    assert spent.net == pytest.approx(3000 - 70 * 10)
    np.testing.assert_allclose(spent.idle, [60, 80])
    np.testing.assert_allclose(spent.blocks, [37.5] * 5)
    assert not spent.went_back
    assert energy.carbon(3.6e6, 400) == 400


def test_a_counter_that_starts_anew_is_no_energy():
    machine = Machine()

    def joules():
        return machine.joules - (1e6 if len(machine.called) > 10 else 0)

    assert machine.spend(energy.Counter(joules, "a driver that is loaded again")).went_back


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (None, "nvidia-ml-py is not installed"),
        (driver(nvmlInit=refuse), "NVML does not start: Insufficient Permissions"),
        (driver(nvmlDeviceGetTotalEnergyConsumption=refuse), "NVML cannot tell: Insufficient Permissions"),
        (driver(nvmlDeviceGetHandleByUUID=refuse), "NVML cannot tell: Insufficient Permissions"),
    ],
)
def test_without_nvml_there_is_a_reason(plugged, made, reason):
    plugged(made)
    with pytest.raises(nvml.Unavailable, match=reason), energy.counter("cuda:0"):
        pass


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetComputeRunningProcesses"])
def test_state_and_memory_have_the_same_reasons(plugged, call):
    told = driver(
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [],
    )
    setattr(told, call, refuse)
    plugged(told)
    assert guard.gpu("cuda:0") is None
    found, reason = memory.driver_memory("cuda:0")
    assert found is None
    assert reason.endswith("Insufficient Permissions")


def domain(folder, index, name, microjoules, most=262_143_328_850):
    made = folder / f"intel-rapl:{index}"
    made.mkdir(parents=True)
    for file, text in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", most)):
        (made / file).write_text(f"{text}\n")
    return made


def test_rapl_sums_packages_and_goes_on_where_one_starts_anew(tmp_path):
    first = domain(tmp_path, 0, "package-0", 1_000_000)
    second = domain(tmp_path, 1, "package-1", 999_000_000, 1_000_000_000)
    domain(tmp_path, "0:0", "core", 5)
    domain(tmp_path, 2, "psys", 5)
    with energy.counter("cpu", tmp_path) as counter:
        before = counter.joules()
        (first / "energy_uj").write_text("3000000")
        (second / "energy_uj").write_text("2000000")
        assert counter.joules() - before == pytest.approx(2 + 3)
        (second / "energy_uj").write_text("2500000")
        assert counter.joules() - before == pytest.approx(5.5)


def test_without_rapl_there_is_a_reason(tmp_path):
    with (
        pytest.raises(nvml.Unavailable, match="energy counter of the processor"),
        energy.counter("cpu", tmp_path),
    ):
        pass
    hidden = domain(tmp_path, 0, "package-0", 0) / "energy_uj"
    hidden.unlink()
    hidden.mkdir()  # an OSError for root too, who may read any file
    with pytest.raises(nvml.Unavailable, match="may not be read: Is a directory"), energy.counter("cpu", tmp_path):
        pass
