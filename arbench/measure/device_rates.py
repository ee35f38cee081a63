"""How fast this device copies memory and multiplies matrices: measured once, and kept for later runs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import StoreError
from ..files import write_atomic
from .clock import Clock, WallClock
from .provenance import device_name

FOLDER = "ARBENCH_RATES"
"""Variable that names the folder of `device-rates.json`, for workers whose `ARBENCH_CACHE` is their run's own."""
CPU_SECONDS, CUDA_SECONDS = 0.1, 0.3
"""How long each rate is measured for, after a first call that does not count."""
COPIED = {"cpu": 64_000_000, "cuda": 1_000_000_000}
"""Bytes of the tensor that is copied: beyond what a cache holds."""
SIDE = {"cpu": 512, "cuda": 8192}
"""Of the square matrices that are multiplied."""


@dataclass(frozen=True, slots=True)
class Rates:
    """bandwidth: bytes per second of a copy on the device, those read and those written. matrix: FLOP per second of a
    product of two square matrices, 2 n^3 being counted."""

    bandwidth: float
    matrix: float

    def least(self, flops: float, traffic: float) -> float:
        """Seconds that work of so many FLOP and bytes takes at least: the longer of computing and of moving."""
        return max(flops / self.matrix, traffic / self.bandwidth)


def key(device: str, dtype: str) -> str:
    """What rates depend on: the device by name, torch's version, the number format, and on a CPU the threads."""
    import torch

    threads = "" if device.startswith("cuda") else f", {torch.get_num_threads()} threads"
    name = device_name(device).partition(": ")[2]
    return f"{name}, torch {torch.__version__}, {dtype}{threads}"


def measured(device: str, dtype: str, clock: Clock | None = None) -> Rates:
    """Measures both rates on an otherwise idle device: the best of repeated calls, as disturbances only add time."""
    import torch

    clock = clock or WallClock(device)
    kind = "cuda" if device.startswith("cuda") else "cpu"
    seconds = CUDA_SECONDS if kind == "cuda" else CPU_SECONDS
    copying, moved = _copy(device, COPIED[kind], clock, seconds)
    side = SIDE[kind]
    factor = torch.ones(side, side, device=device, dtype=getattr(torch, dtype))
    product = torch.empty_like(factor)
    multiplying = _best(lambda: torch.mm(factor, factor, out=product), clock, seconds)
    return Rates(moved / copying, 2 * side**3 / multiplying)


def _copy(device: str, size: int, clock: Clock, seconds: float) -> tuple[float, int]:
    """Seconds of copying so many bytes, and the bytes that it moves."""
    import torch

    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return _best(lambda: target.copy_(source), clock, seconds), 2 * size


def _best(call: Callable[[], object], clock: Clock, seconds: float) -> float:
    call()
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = clock.now()
        call()
        took = max(clock.now() - start, 1e-9)
        best, spent = min(best, took), spent + took
    return best


# ---- kept between runs -----------------------------------------------------------------------------------------------


def folder() -> Path:
    """`$ARBENCH_RATES`, else `$ARBENCH_CACHE`, else `~/.cache/arbench`."""
    given = os.environ.get(FOLDER) or os.environ.get("ARBENCH_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "arbench"


def rates(device: str, dtype: str) -> Rates:
    """The rates of `device`, as kept, or measured now and kept. A folder that cannot be written keeps none."""
    name, known = key(device, dtype), _read()
    if name in known:
        return known[name]
    found = measured(device, dtype)
    text = json.dumps({each: asdict(one) for each, one in {**known, name: found}.items()}, indent=1, sort_keys=True)
    with contextlib.suppress(OSError, StoreError):  # then they are measured again the next time
        write_atomic(folder() / "device-rates.json", text.encode())
    return found


def _read() -> dict[str, Rates]:
    """All that are kept; a damaged file is as absent."""
    try:
        found = json.loads((folder() / "device-rates.json").read_text(encoding="utf-8"))
        read = {str(name): Rates(float(one["bandwidth"]), float(one["matrix"])) for name, one in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return {name: one for name, one in read.items() if one.bandwidth > 0 and one.matrix > 0}
