"""The timing loop on a clock moved by hand: what is timed, when it stops, what it notices."""

import gc

import pytest

from arbench.measure.clock import FakeClock, WallClock
from arbench.measure.loop import StopRule, collector_paused, time_calls


class Trace:
    """A call that takes the seconds it is told; preparing and checking take time too, which must not count."""

    def __init__(self, seconds, output=lambda index: str(index).encode()):
        self.clock = FakeClock()
        self.seconds = seconds
        self.output = output
        self.log = []

    def prepare(self, index):
        self.clock.advance(100)
        self.log.append(("prepare", index))
        return index

    def call(self, index):
        assert not gc.isenabled()
        self.clock.advance(self.seconds(index))
        self.log.append(("call", index))
        return index

    def consume(self, index):
        self.clock.advance(1000)
        self.log.append(("consume", index))
        return self.output(index)

    def run(self, **limits):
        return time_calls(self.call, self.prepare, self.consume, self.clock, StopRule(**limits))


def test_steady_calls_need_three_warm_up_calls_and_both_minima():
    trace = Trace(lambda index: 1.0)
    timed = trace.run(min_calls=5, min_seconds=2)
    assert timed.warmup.tolist() == [1.0] * 3
    assert timed.seconds.tolist() == pytest.approx([1.0] * 5)
    assert timed.flags == ()
    assert timed.calls == 8


def test_the_time_minimum_asks_for_more_calls():
    timed = Trace(lambda index: 0.125).run(min_calls=5, min_seconds=2)
    assert len(timed.seconds) == 16


def test_the_cap_wins_over_the_minima():
    timed = Trace(lambda index: 8.0).run(min_calls=10, min_seconds=2, max_seconds=30)
    assert len(timed.seconds) == 4
    assert timed.flags == ("few_calls",)


def test_one_call_is_made_even_if_it_takes_longer_than_allowed():
    timed = Trace(lambda index: 90.0).run(max_seconds=30)
    assert (len(timed.warmup), len(timed.seconds)) == (1, 1)
    assert set(timed.flags) == {"warmup_unsettled", "few_calls"}


def test_warm_up_goes_on_until_three_calls_agree():
    slow = {0: 9.0, 1: 2.0, 2: 1.5, 3: 1.2, 4: 1.03, 5: 1.0, 6: 1.02}
    timed = Trace(lambda index: slow.get(index, 1.0)).run(min_calls=4, min_seconds=0)
    assert timed.warmup.tolist() == pytest.approx([9.0, 2.0, 1.5, 1.2, 1.03, 1.0, 1.02])
    assert timed.first == 9.0
    assert timed.seconds.tolist() == pytest.approx([1.0] * 4)
    assert timed.flags == ()


def test_warm_up_that_never_settles_is_capped_and_said():
    timed = Trace(lambda index: 1.0 + index % 2).run(min_calls=3, min_seconds=0, warmup_cap=7)
    assert len(timed.warmup) == 7
    assert timed.flags == ("warmup_unsettled",)


def test_every_call_gets_its_own_input_prepared_before_and_checked_after():
    trace = Trace(lambda index: 1.0)
    timed = trace.run(min_calls=4, min_seconds=0)
    expected = [(step, index) for index in range(timed.calls) for step in ("prepare", "call", "consume")]
    assert trace.log == expected


def test_equal_outputs_in_a_row_are_noticed():
    assert Trace(lambda index: 1.0, output=lambda index: b"same").run().flags == ("repeated_output",)
    alternating = Trace(lambda index: 1.0, output=lambda index: str(index % 2).encode())
    assert alternating.run().flags == ()


def test_an_output_that_fails_its_check_stops_the_loop_and_the_collector_is_back():
    def refuse(index):
        if index == 4:
            raise ValueError("not finite")
        return b"%d" % index

    with pytest.raises(ValueError, match="not finite"):
        Trace(lambda index: 1.0, output=refuse).run()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
    with collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_progress_counts_calls_of_warm_up_too():
    told = []
    trace = Trace(lambda index: 1.0)
    limits = StopRule(min_calls=3, min_seconds=0)
    time_calls(trace.call, trace.prepare, trace.consume, trace.clock, limits, told.append)
    assert told == [1, 2, 3, 4, 5, 6]


def test_the_wall_clock_moves_forward():
    clock = WallClock("cpu")
    first = clock.now()
    sum(range(1000))
    assert clock.now() > first
