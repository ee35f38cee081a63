"""The timing loop: warm up until calls agree, then time whole calls with fresh inputs and checked outputs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .clock import Clock
from .statistics import agree

Input = TypeVar("Input")
Output = TypeVar("Output")


@dataclass(frozen=True, slots=True)
class StopRule:
    """When the loop stops: at `min_calls` and `min_seconds` both, but never after `max_seconds` of timed calls.

    Warm-up stops once it has `warmup_calls` calls and the last three differ by at most `tolerance`, or at
    `warmup_cap` calls, or after `max_seconds`.
    """

    min_calls: int = 10
    min_seconds: float = 2.0
    max_seconds: float = 60.0
    warmup_calls: int = 3
    warmup_cap: int = 12
    tolerance: float = 0.05


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of each call, the warm-up apart. `flags`: `warmup_unsettled`, `few_calls`, `repeated_output`."""

    warmup: NDArray[np.float64]
    seconds: NDArray[np.float64]
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
) -> Timed:
    """Times `call(prepare(i))` for i = 0, 1, ...: inputs are made before the clock starts and differ.

    `consume` runs after the clock stops; it checks an output (raising if it is not usable) and returns a
    fingerprint. Two equal fingerprints in a row mean a cached or constant output, flagged `repeated_output`.
    """
    fingerprint: bytes | None = None
    repeated = False

    def once(index: int) -> float:
        nonlocal fingerprint, repeated
        given = prepare(index)
        start = clock.now()
        output = call(given)
        seconds = clock.now() - start
        seen = consume(output)
        repeated |= seen == fingerprint
        fingerprint = seen
        progress(index + 1)
        return seconds

    with collector_paused():
        warmup: list[float] = []
        settled = False
        while not settled and len(warmup) < limits.warmup_cap and (not warmup or sum(warmup) < limits.max_seconds):
            warmup.append(once(len(warmup)))
            settled = len(warmup) >= max(limits.warmup_calls, 3) and agree(warmup[-3:], limits.tolerance)
        seconds: list[float] = []
        spent = 0.0
        while not seconds or (
            (len(seconds) < limits.min_calls or spent < limits.min_seconds) and spent < limits.max_seconds
        ):
            seconds.append(once(len(warmup) + len(seconds)))
            spent += seconds[-1]

    flags = {
        "warmup_unsettled": not settled,
        "few_calls": len(seconds) < limits.min_calls,
        "repeated_output": repeated,
    }
    return Timed(np.array(warmup), np.array(seconds), tuple(name for name, raised in flags.items() if raised))
