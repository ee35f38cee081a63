"""What else was at work: from readings by hand, from this machine, and from a GPU's driver as it answers."""

import time
from types import SimpleNamespace

import pytest

from arbench.measure import guard
from arbench.measure.guard import Disturbance, GpuState, Reading, between, gpu_state, read, told, wait_idle


def test_others_are_what_is_busy_and_not_ours():
    found = between(Reading(10, 100, 30, 5), Reading(20, 125, 40, 7), available=4)
    assert found == Disturbance(cores=pytest.approx(1.5), stolen=pytest.approx(2 / 40))


def test_clock_ticks_give_no_negative_load():
    assert between(Reading(0, 0, 0, 0), Reading(1, 0.99, 1.01, 0), 2).cores == 0


@pytest.mark.parametrize(
    ("others", "stolen", "available", "flags"),
    [
        (0.0, 0.0, 2, ()),
        (0.2, 0.0, 2, ()),
        (0.3, 0.0, 2, ("busy",)),
        (1.0, 0.0, 64, ()),
        (4.0, 0.0, 64, ("busy",)),
        (0.0, 0.03, 2, ("stolen_time",)),
    ],
)
def test_from_where_on_a_machine_is_busy(others, stolen, available, flags):
    assert Disturbance(others, stolen).flags(available) == flags


def test_our_own_work_is_ours():
    before, until = read(), time.process_time() + 0.1
    while time.process_time() < until:
        pass
    after = read()
    assert 0.08 < after.own - before.own < 0.5
    assert after.wall > before.wall
    assert after.busy - before.busy >= 0.05  # ours is in it


def test_waiting_ends_when_the_machine_is_idle(monkeypatch):
    monkeypatch.setattr(guard, "cores", lambda: 2)
    slept = []
    busy = iter((0, 2, 2, 4, 4, 4.1))  # of the looks: two busy seconds, then an idle one
    clock = iter((0, 1, 1, 2, 2, 3))
    found = wait_idle(60, look=lambda: Reading(next(clock), next(busy), 0, 0), sleep=slept.append)
    assert slept == [1.0] * 3
    assert found.flags(2) == ()


def test_waiting_ends_with_the_time_given():
    slept = []
    looks = (Reading(index, 2 * index, 0, 0) for index in range(100))
    found = wait_idle(2.5, look=lambda: next(looks), sleep=slept.append)
    assert len(slept) == 3
    assert found.flags(2) == ("busy",)


def test_without_patience_there_is_one_look():
    slept = []
    wait_idle(0, look=lambda: Reading(0, 0, 0, 0), sleep=slept.append, pause=0.3)
    assert slept == [0.3]


def test_what_spoils_timings_in_words():
    assert told(Disturbance(0.1, 0.0), 2) == ""
    assert told(Disturbance(1.52, 0.1), 2) == (
        "other processes use 1.5 of 2 cores and the host takes 10% of the processor time"
    )


def test_a_gpu_that_is_throttled_and_shared():
    driver = SimpleNamespace(
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x4 | 0x40 | 0x1,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [SimpleNamespace(pid=7), SimpleNamespace(pid=8)],
        nvmlDeviceGetClockInfo=lambda handle, kind: 1500,
        nvmlDeviceGetMaxClockInfo=lambda handle, kind: 1980,
        nvmlDeviceGetTemperature=lambda handle, kind: 84,
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 700_000,
    )
    found = gpu_state(driver, None, pid=7)
    assert found == GpuState(1500, 1980, 84, 700, ("power limit", "too hot"), 1)
    assert found.flags == ("throttled", "device_shared")
    assert guard.gpu("cpu") is None
