"""The phase probe: exclusive times of random nestings against a direct recursion, and misuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbench.measure.clock import FakeClock
from arbench.measure.probe import ORDER, HostStamps, PhaseProbe, stamps_for

# a node: phase, index, seconds before its children, children, seconds after them
TICKS = st.integers(0, 50)
NODES = st.recursive(
    st.tuples(st.sampled_from(ORDER), st.integers(0, 5), TICKS, st.just([]), TICKS),
    lambda children: st.tuples(st.sampled_from(ORDER), st.integers(0, 5), TICKS, st.lists(children, max_size=4), TICKS),
    max_leaves=12,
)


def play(probe, clock, nodes):
    for phase, index, before, children, after in nodes:
        with probe(phase, index=index):
            clock.advance(before)
            play(probe, clock, children)
            clock.advance(after)


def expect(nodes, own, entries):
    """Inclusive seconds of `nodes`; adds exclusive seconds and entries by phase."""
    total = 0
    for phase, _, before, children, after in nodes:
        own[phase] = own.get(phase, 0) + before + after
        entries[phase] = entries.get(phase, 0) + 1
        total += before + after + expect(children, own, entries)
    return total


@settings(deadline=None, max_examples=50)
@given(st.lists(NODES, max_size=4), TICKS)
def test_exclusive_times_of_any_nesting(nodes, outside):
    clock = FakeClock()
    probe = PhaseProbe(HostStamps(clock.now))
    probe.start()
    clock.advance(outside)
    play(probe, clock, nodes)
    trace = probe.finish()
    own, entries = {}, {}
    total = expect(nodes, own, entries)
    assert trace.exclusive() == pytest.approx(own)
    assert trace.entries() == entries
    assert trace.covered() == pytest.approx(total)
    assert sum(trace.exclusive().values()) == pytest.approx(trace.covered())
    for span in trace.spans:
        if span.parent >= 0:
            parent = trace.spans[span.parent]
            assert parent.start <= span.start <= span.stop <= parent.stop


def test_steps_by_index_hold_what_is_inside_them():
    clock = FakeClock()
    probe = PhaseProbe(HostStamps(clock.now))
    probe.start()
    for index, seconds in ((0, 1.0), (1, 2.0), (3, 4.0), (1, 0.5)):
        with probe("ar", index=index, tokens=16):
            clock.advance(seconds)
            with probe("inner"):
                clock.advance(0.25)
    trace = probe.finish()
    np.testing.assert_allclose(trace.by_index("ar"), [1.25, 3.0, np.nan, 4.25])
    assert trace.by_index("decode").shape == (0,)
    assert trace.exclusive() == pytest.approx({"ar": 7.5, "inner": 1.0})
    assert [span.tokens for span in trace.spans if span.phase == "ar"] == [16] * 4


def test_each_call_starts_afresh():
    clock = FakeClock()
    probe = PhaseProbe(HostStamps(clock.now))
    for seconds in (1.0, 2.0):
        probe.start()
        with probe("decode"):
            clock.advance(seconds)
        assert probe.finish().exclusive() == {"decode": seconds}
    probe.start()
    assert probe.finish().spans == ()


def test_a_phase_that_raises_is_closed_on_the_way_out():
    probe = PhaseProbe(stamps_for("cpu"))
    probe.start()
    with pytest.raises(KeyError), probe("ar"), probe("inner"):
        raise KeyError
    assert probe.finish().entries() == {"ar": 1, "inner": 1}


def test_misuse_is_named():
    probe = PhaseProbe(stamps_for("cpu"))
    with pytest.raises(ValueError, match="no phase named 'sampling'"):
        probe("sampling")
    with pytest.raises(ValueError, match="not negative"):
        probe("ar", index=-1)
    probe.start()
    outer, inner = probe("ar"), probe("inner")
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError, match="'ar' is left while"):
        outer.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="'inner' was entered and never left"):
        probe.finish()
