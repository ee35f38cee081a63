"""The timing loop: warm up until calls agree, then time whole calls with fresh inputs and checked outputs."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .clock import Clock
from .probe import Stamps
from .statistics import agree, half_width, narrow

Input = TypeVar("Input")
Output = TypeVar("Output")


LOOKS = 10
"""The interval is computed each time that this part more calls are there, as sorting many calls takes time."""
CHANCE = 0.05
"""Part of the calls whose outputs may be equal to earlier ones: of 600 synthetic images two can have the same 16 codes,
and so the same reconstruction, where a cache repeats most outputs."""


@dataclass(frozen=True, slots=True)
class StopRule:
    """When the loop stops: when there are `min_calls`, `min_seconds` and the `interval`, but never after `max_seconds`.

    interval: half the 95 % interval of the median is at most this part of the median; None asks for none. Calls are
    added for its sake alone until there are `interval_seconds`: on a busy machine it may never be reached. Seconds are
    of timed calls. Warm-up stops once it has `warmup_calls` calls and the last three differ by at most `tolerance`, or
    at `warmup_cap` calls, or after `max_seconds`.
    """

    min_calls: int = 10
    min_seconds: float = 2.0
    interval: float | None = None
    interval_seconds: float = math.inf
    max_seconds: float = 60.0
    warmup_calls: int = 3
    warmup_cap: int = 12
    tolerance: float = 0.05


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of each call, the warm-up apart.

    marks: (calls, m) of the timed calls, seconds from the begin to each stamp of the device's own clock, of which the
    last is the end; m is 0 without stamps. `flags`: `warmup_unsettled`, `few_calls`, `wide_interval`,
    `repeated_output`.
    """

    warmup: NDArray[np.float64]
    seconds: NDArray[np.float64]
    marks: NDArray[np.float64]
    flags: tuple[str, ...]

    @property
    def first(self) -> float:
        """The first call of this shape."""
        return float(self.warmup[0])

    @property
    def calls(self) -> int:
        """Calls made in all, so that the next input is number `calls`."""
        return len(self.warmup) + len(self.seconds)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Collects garbage once, then keeps the collector off; it is as it was afterwards."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def time_calls(
    call: Callable[[Input], Output],
    prepare: Callable[[int], Input],
    consume: Callable[[Output], bytes],
    clock: Clock,
    limits: StopRule,
    progress: Callable[[int], None] = lambda calls: None,
    stamps: Stamps | None = None,
) -> Timed:
    """Times `call(prepare(i))` for i = 0, 1, ...: inputs are made before the clock starts and differ.

    `consume` runs after the clock stops; it checks an output (raising if it is not usable) and returns a
    fingerprint. Equal fingerprints mean a cached or constant output, flagged `repeated_output`, unless they are fewer
    than `CHANCE`. `stamps` mark begin and end of a call on the device; the call may add some of its own, always as
    many.
    """
    fingerprints: set[bytes] = set()
    marks: list[NDArray[np.float64]] = []
    settled = measuring = False

    def once(index: int) -> float:
        given = prepare(index)
        start = clock.now()
        if stamps is not None:
            stamps.reset()
            stamps.stamp()
        output = call(given)
        if stamps is not None:
            stamps.stamp()
        seconds = clock.now() - start
        if stamps is not None and measuring:
            marks.append(stamps.times()[1:])
        fingerprints.add(consume(output))
        progress(index + 1)
        return seconds

    if limits.interval is not None:
        narrow([1.0], limits.interval)  # loads SciPy now, not between calls that are timed
    with collector_paused():
        warmup: list[float] = []
        while not settled and len(warmup) < limits.warmup_cap and (not warmup or sum(warmup) < limits.max_seconds):
            warmup.append(once(len(warmup)))
            settled = len(warmup) >= max(limits.warmup_calls, 3) and agree(warmup[-3:], limits.tolerance)
        measuring = True
        seconds: list[float] = []
        spent, look, enough = 0.0, limits.min_calls, False
        while not seconds or (not enough and spent < limits.max_seconds):
            seconds.append(once(len(warmup) + len(seconds)))
            spent += seconds[-1]
            if len(seconds) >= look and spent >= limits.min_seconds:
                enough = (
                    limits.interval is None
                    or spent >= max(limits.interval_seconds, limits.min_seconds)
                    or narrow(seconds, limits.interval)
                )
                look = len(seconds) + 1 + len(seconds) // LOOKS

    flags = {
        "warmup_unsettled": not settled,
        "few_calls": len(seconds) < limits.min_calls,
        "wide_interval": limits.interval is not None and (half_width(seconds) or 0.0) > limits.interval,
        "repeated_output": len(fingerprints) < (1 - CHANCE) * (len(warmup) + len(seconds)),
    }
    return Timed(
        np.array(warmup),
        np.array(seconds),
        np.stack(marks) if marks else np.zeros((len(seconds), 0)),
        tuple(name for name, raised in flags.items() if raised),
    )
