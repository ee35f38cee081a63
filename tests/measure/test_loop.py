"""The timing loop on a clock moved by hand: what is timed, when it stops, what it notices."""

import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbench.measure.clock import FakeClock, WallClock
from arbench.measure.loop import StopRule, collector_paused, time_calls
from arbench.measure.probe import HostStamps
from arbench.measure.statistics import half_width, narrow


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


def test_equal_outputs_are_noticed_also_where_others_lie_between():
    assert Trace(lambda index: 1.0, output=lambda index: b"same").run().flags == ("repeated_output",)
    once_more = Trace(lambda index: 1.0, output=lambda index: b"0" if index == 7 else str(index).encode())
    assert once_more.run().flags == ("repeated_output",)


def test_few_equal_outputs_among_many_are_chance():
    def flags(repeated):
        return Trace(lambda index: 0.1, output=lambda index: str(index % repeated).encode()).run(min_calls=200).flags

    assert flags(200) == ()  # 3 of 203
    assert flags(180) == ("repeated_output",)


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


# ---- until the interval is narrow ------------------------------------------------------------------------------------


def noisy(index):
    return 1 + 0.2 * ((index * 0.618) % 1)


def test_calls_go_on_until_the_interval_is_narrow():
    timed = Trace(noisy).run(min_calls=6, min_seconds=0, interval=0.02, max_seconds=1000)
    assert timed.flags == ("warmup_unsettled",)
    assert 6 < len(timed.seconds) < 200
    assert half_width(timed.seconds) <= 0.02
    wider = Trace(noisy).run(min_calls=6, min_seconds=0, interval=0.04, max_seconds=1000)
    assert len(wider.seconds) < len(timed.seconds)


def test_an_interval_that_stays_wide_is_said():
    timed = Trace(noisy).run(min_calls=6, min_seconds=0, interval=0.001, max_seconds=50)
    assert timed.flags == ("warmup_unsettled", "wide_interval")
    assert 50 <= timed.seconds.sum() < 52


def test_a_narrow_interval_takes_none_of_the_minima_away():
    steady = Trace(lambda index: 1.0)
    assert len(steady.run(min_calls=10, min_seconds=0, interval=0.01).seconds) == 10
    assert len(Trace(lambda index: 1.0).run(min_calls=6, min_seconds=15, interval=0.01).seconds) == 15


def test_too_few_calls_for_an_interval_are_not_enough():
    assert len(Trace(lambda index: 1.0).run(min_calls=3, min_seconds=0, interval=0.5).seconds) == 6


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.floats(0.5, 10), min_size=1, max_size=40),
    st.integers(3, 12),
    st.floats(0, 20),
    st.none() | st.floats(0.001, 0.5),
)
def test_every_rule_holds_for_any_recorded_times(recorded, min_calls, min_seconds, interval):
    """Of a trace that repeats: all is reached that was asked for, or the time was up and it is said."""
    limits = {"min_calls": min_calls, "min_seconds": min_seconds, "interval": interval, "max_seconds": 60}
    timed = Trace(lambda index: recorded[index % len(recorded)]).run(**limits)
    count, spent = len(timed.seconds), timed.seconds.sum()
    assert ("few_calls" in timed.flags) == (count < min_calls)
    assert ("wide_interval" in timed.flags) == (
        interval is not None and count >= 6 and not narrow(timed.seconds, interval)
    )
    if {"few_calls", "wide_interval"} & set(timed.flags) or spent < min_seconds - 1e-9:
        assert spent >= 60 - 1e-9
    assert spent - timed.seconds[-1] < 60
    assert timed.warmup.tolist() == pytest.approx([recorded[i % len(recorded)] for i in range(len(timed.warmup))])


def test_the_device_s_own_clock_times_calls_but_not_the_warm_up():
    trace = Trace(lambda index: 2.0)
    stamps = HostStamps(trace.clock.now)
    limits = StopRule(min_calls=5, min_seconds=0)
    timed = time_calls(trace.call, trace.prepare, trace.consume, trace.clock, limits, stamps=stamps)
    assert timed.marks.tolist() == [[pytest.approx(2.0)]] * 5


def test_the_interval_is_not_waited_for_beyond_its_time():
    timed = Trace(noisy).run(min_calls=6, min_seconds=0, interval=0.001, interval_seconds=20)
    assert 20 <= timed.seconds.sum() < 24
    assert "wide_interval" in timed.flags
