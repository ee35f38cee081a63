"""Measuring on CUDA: the clock waits, events nest, the peak is that of a known allocation, NVML answers or says why."""

import itertools
import time

import numpy as np
import pytest
import torch

from arbench.measure.clock import WallClock
from arbench.measure.device_rates import measured
from arbench.measure.energy import counter, spend
from arbench.measure.guard import gpu
from arbench.measure.kernels import launched
from arbench.measure.loop import StopRule, time_calls
from arbench.measure.memory import CudaMeter, driver_memory, meter_for
from arbench.measure.nvml import Unavailable
from arbench.measure.probe import EventStamps, PhaseProbe, stamps_for

pytestmark = pytest.mark.gpu
MIB = 1 << 20
CYCLES = 200_000_000  # 0.1 s at 2 GHz


def busy(cycles):
    torch.cuda._sleep(cycles)


def test_the_clock_waits_for_the_device():
    clock = WallClock("cuda")
    busy(CYCLES // 10)
    start = clock.now()
    busy(CYCLES)
    launched = WallClock("cpu").now() - start
    waited = clock.now() - start
    assert launched < 0.01 < 0.03 < waited


def test_phases_by_events_add_up_to_the_host_clock():
    clock, probe = WallClock("cuda"), PhaseProbe(stamps_for("cuda"))
    busy(1000)
    for _ in range(2):  # the second call reuses the events of the first
        probe.start()
        start = clock.now()
        with probe("prefill"):
            busy(CYCLES)
        for index in range(4):
            with probe("ar", index=index):
                busy(CYCLES // 4)
                with probe("inner"):
                    busy(CYCLES // 4)
        seconds = clock.now() - start
        trace = probe.finish()
    own = trace.exclusive()
    assert trace.covered() == pytest.approx(seconds, rel=0.05)
    assert own["ar"] == pytest.approx(own["prefill"], rel=0.1)
    assert own["inner"] == pytest.approx(own["prefill"], rel=0.1)
    steps = trace.by_index("ar")
    assert steps.shape == (4,)
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.1)


def test_marks_do_not_wait():
    probe = PhaseProbe(EventStamps("cuda"))
    torch.cuda.synchronize()
    probe.start()
    start = WallClock("cpu").now()
    with probe("ar"):
        busy(CYCLES)
    assert WallClock("cpu").now() - start < 0.01
    assert probe.finish().covered() > 0.03


def test_the_loop_times_device_work():
    counter = itertools.count()
    timed = time_calls(
        lambda index: busy(CYCLES // 10),
        lambda index: index,
        lambda output: str(next(counter)).encode(),
        WallClock("cuda"),
        StopRule(min_calls=5, min_seconds=0),
        stamps=stamps_for("cuda:0"),
    )
    assert timed.seconds.min() > 0.003
    assert timed.marks[:, -1].min() > 0.003  # by events
    assert (timed.marks[:, -1] <= timed.seconds + 1e-3).all()


def test_rates_of_the_device_and_its_state():
    found = measured("cuda:0", "bfloat16")
    assert 1e11 < found.bandwidth < 2e13
    assert 1e12 < found.matrix < 1e16
    state = gpu("cuda:0")
    assert state is None or 0 < state.clock <= state.highest_clock


def test_allocated_peak_of_a_known_allocation():
    meter = meter_for("cuda:0")
    assert isinstance(meter, CudaMeter)
    assert meter.reset()
    before = meter.current()
    block = torch.empty(256 * MIB, dtype=torch.uint8, device="cuda:0")
    del block
    assert meter.peak() - before == 256 * MIB
    assert meter.reserved() >= 256 * MIB
    assert meter.current() == before
    meter.reset()
    assert meter.peak() == before


def test_the_driver_counts_this_process_or_says_why_not():
    block = torch.empty(64 * MIB, dtype=torch.uint8, device="cuda:0")
    used, reason = driver_memory("cuda:0")
    assert (used is None) == bool(reason)
    assert used is None or used > block.numel()


def test_events_agree_with_the_work_of_a_known_kernel():
    """Ten products of 8192^3 take ten times one, and no less than the device's best rate allows."""
    rate = measured("cuda:0", "bfloat16").matrix
    factor = torch.ones(8192, 8192, device="cuda:0", dtype=torch.bfloat16)
    product = torch.empty_like(factor)

    def taken(times):
        stamps = EventStamps("cuda:0")
        stamps.reset()
        stamps.stamp()
        for _ in range(times):
            torch.mm(factor, factor, out=product)
        stamps.stamp()
        return stamps.times()[1]

    taken(10)  # warms up
    one, ten = min(taken(1) for _ in range(5)), min(taken(10) for _ in range(5))
    least = 2 * 8192**3 / rate
    assert 0.95 * least < one < 1.3 * least
    assert ten == pytest.approx(10 * one, rel=0.15)


def test_kernels_are_counted_one_by_one_and_in_a_graph():
    block = torch.zeros(1 << 20, device="cuda:0")

    def five():
        for _ in range(5):
            block.add_(1)

    five()
    torch.cuda.synchronize()
    found = launched(five, "cuda:0")
    if found.kernels is None:
        pytest.skip(found.reason)
    assert (found.kernels, found.copies) == (5, 0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        five()
    assert launched(graph.replay, "cuda:0").kernels == 5


def test_energy_of_work_is_more_than_of_idling():
    factor = torch.ones(8192, 8192, device="cuda:0", dtype=torch.bfloat16)
    product = torch.empty_like(factor)
    clock = WallClock("cuda:0")

    def call(index):
        for _ in range(20):
            torch.mm(factor, factor, out=product)
        clock.now()

    try:
        with counter("cuda:0") as counted:
            spent = spend(call, 1, counted, clock, seconds=4, idle_seconds=2, warm_up=2, sleep=time.sleep)
    except Unavailable as error:
        pytest.skip(str(error))
    state = gpu("cuda:0")
    assert spent.gross / spent.seconds > 1.3 * spent.idle.mean() > 0
    assert state is None or spent.gross / spent.seconds < 1.1 * state.power_limit
