"""The timing probe: how long each phase of a call takes, itself alone and by step index."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..protocols import Phase

if TYPE_CHECKING:
    import torch

ORDER: tuple[Phase, ...] = ("condition", "prefill", "ar", "inner", "encode", "decode")
GAP = "gap"
"""The part of a call outside all phases: host code, launches, sampling logic between marks."""


class Stamps(Protocol):
    """Marks moments of one call and tells afterwards when they were."""

    def reset(self) -> None: ...

    def stamp(self) -> int:
        """Marks now; the number of the mark."""
        ...

    def times(self) -> NDArray[np.float64]:
        """Seconds of every mark after the first. Waits for the device, once."""
        ...


class HostStamps:
    """Host time, for a device that works synchronously."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._marks: list[float] = []

    def reset(self) -> None:
        self._marks.clear()

    def stamp(self) -> int:
        self._marks.append(self._now())
        return len(self._marks) - 1

    def times(self) -> NDArray[np.float64]:
        marks = np.array(self._marks, dtype=np.float64)
        return marks - marks[:1]


class EventStamps:
    """CUDA events, taken from a pool that grows in the first call and is reused in the next ones."""

    def __init__(self, device: str = "cuda") -> None:
        self._device = device
        self._pool: list[torch.cuda.Event] = []
        self._used = 0

    def reset(self) -> None:
        self._used = 0

    def stamp(self) -> int:
        import torch

        if self._used == len(self._pool):
            self._pool.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
        self._pool[self._used].record(torch.cuda.current_stream(self._device))
        self._used += 1
        return self._used - 1

    def times(self) -> NDArray[np.float64]:
        import torch

        torch.cuda.synchronize(self._device)
        first = self._pool[0]
        milliseconds = [0.0, *(first.elapsed_time(event) for event in self._pool[1 : self._used])]
        return np.array(milliseconds[: self._used], dtype=np.float64) / 1e3


def stamps_for(device: str) -> Stamps:
    return EventStamps(device) if device.startswith("cuda") else HostStamps()


@dataclass(frozen=True, slots=True)
class Span:
    """One entry of a phase. `parent` is the position of the enclosing span in the trace, -1 at the top."""

    phase: Phase
    index: int
    tokens: int
    start: float
    stop: float
    parent: int

    @property
    def seconds(self) -> float:
        return self.stop - self.start


@dataclass(frozen=True)
class Trace:
    """The spans of one call, in order of entry."""

    spans: tuple[Span, ...]

    def exclusive(self) -> dict[str, float]:
        """Seconds of each phase without the phases inside it; their sum is the time covered by top spans."""
        own = [span.seconds for span in self.spans]
        for span in self.spans:
            if span.parent >= 0:
                own[span.parent] -= span.seconds
        return {
            phase: sum(seconds for span, seconds in zip(self.spans, own, strict=True) if span.phase == phase)
            for phase in self._phases()
        }

    def entries(self) -> dict[str, int]:
        """How often each phase was entered."""
        return {phase: sum(span.phase == phase for span in self.spans) for phase in self._phases()}

    def covered(self) -> float:
        """Seconds inside any phase."""
        return sum(span.seconds for span in self.spans if span.parent < 0)

    def by_index(self, phase: Phase) -> NDArray[np.float64]:
        """(steps,) seconds of `phase` (with what is inside it) at index 0, 1, ...; NaN where an index is missing."""
        found = [span for span in self.spans if span.phase == phase]
        steps = np.full(1 + max((span.index for span in found), default=-1), np.nan)
        for span in found:
            steps[span.index] = span.seconds + (0.0 if np.isnan(steps[span.index]) else steps[span.index])
        return steps

    def _phases(self) -> list[Phase]:
        present = {span.phase for span in self.spans}
        return [phase for phase in ORDER if phase in present]


@dataclass(slots=True)
class _Open:
    phase: Phase
    index: int
    tokens: int
    start: int
    parent: int
    stop: int = -1


@dataclass(slots=True)
class _Mark(AbstractContextManager[None]):
    """Entering and leaving one phase."""

    probe: PhaseProbe
    phase: Phase
    index: int
    tokens: int
    position: int = field(default=-1)

    def __enter__(self) -> None:
        self.position = self.probe.enter(self.phase, self.index, self.tokens)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.probe.leave(self.position)


class PhaseProbe:
    """A `Probe` that records the phases of one call after another: `start()`, the call, `trace = finish()`."""

    def __init__(self, stamps: Stamps) -> None:
        self._stamps = stamps
        self._spans: list[_Open] = []
        self._stack: list[int] = []

    def __call__(self, phase: Phase, *, index: int = 0, tokens: int = 0) -> AbstractContextManager[None]:
        if phase not in ORDER:
            raise ValueError(f"no phase named {phase!r}; there are {', '.join(ORDER)}")
        if index < 0:
            raise ValueError(f"phase {phase!r}: the index of a step is not negative, got {index}")
        return _Mark(self, phase, index, tokens)

    def enter(self, phase: Phase, index: int, tokens: int) -> int:
        parent = self._stack[-1] if self._stack else -1
        self._stack.append(len(self._spans))
        self._spans.append(_Open(phase, index, tokens, self._stamps.stamp(), parent))
        return self._stack[-1]

    def leave(self, position: int) -> None:
        if not self._stack or self._stack[-1] != position:
            raise RuntimeError(f"phase {self._spans[position].phase!r} is left while a phase inside it is open")
        self._spans[position].stop = self._stamps.stamp()
        self._stack.pop()

    def start(self) -> None:
        """Forgets the last call."""
        self._stamps.reset()
        self._spans.clear()
        self._stack.clear()

    def finish(self) -> Trace:
        """The trace of the call since `start`; waits for the device."""
        if self._stack:
            raise RuntimeError(f"phase {self._spans[self._stack[-1]].phase!r} was entered and never left")
        if not self._spans:
            return Trace(())
        times = self._stamps.times()
        return Trace(
            tuple(
                Span(one.phase, one.index, one.tokens, float(times[one.start]), float(times[one.stop]), one.parent)
                for one in self._spans
            )
        )
