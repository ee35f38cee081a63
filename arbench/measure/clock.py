"""Clocks: wall time that waits for the device, and one that tests move by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since some fixed moment, once all work given to the device is done."""
        ...


class WallClock:
    """`time.perf_counter`, after a synchronisation where the device is CUDA."""

    def __init__(self, device: str = "cpu") -> None:
        self._cuda = device.startswith("cuda")
        self._device = device

    def now(self) -> float:
        if self._cuda:
            import torch

            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class FakeClock:
    """Time that passes only when `advance` is called."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
