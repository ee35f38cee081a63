"""How many workers a machine has places for, and where they are."""

from __future__ import annotations

import psutil

from ..errors import UsageError
from ..spec.suite import Settings
from .device import all_devices, cores
from .executor import EVALUATIONS, MAX_CPU_WORKERS, Slot

MEMORY_SHARE = 0.8
"""Of the free memory, for all workers together."""


def slots_for(settings: Settings, workers: int | None, gigabytes: float = 0.0) -> tuple[list[Slot], Slot]:
    """Where the workers of quality cells run, and where the single one of a speed or memory cell does.

    `settings.device` is resolved. By default one worker per CUDA device, or per core on the CPU, up to eight and to
    as many cells of so many `gigabytes` as fit into the memory that is free. The threads of a slot compute the numbers
    of a cell, and depend on the machine, not on `workers`.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: at least one is needed")
    devices = all_devices(settings.device)
    count = workers or (len(devices) if settings.device != "cpu" else min(cores(), MAX_CPU_WORKERS, _fit(gigabytes)))
    shares = EVALUATIONS if settings.device == "cpu" else len(devices)
    threads = max(1, cores() // shares)
    return [Slot(devices[index % len(devices)], threads) for index in range(count)], Slot(devices[0], cores())


def _fit(gigabytes: float) -> int:
    """Cells that fit side by side into the memory that is free, at least 1."""
    free = psutil.virtual_memory().available * MEMORY_SHARE / 1e9
    return max(1, int(free / max(gigabytes, 0.1)))
