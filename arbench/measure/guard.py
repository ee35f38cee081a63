"""What else was at work on the machine while something was measured: other processes, and what slows a GPU down.

Reads only; no setting of a device is changed. Torch is imported where a GPU is asked for, not before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

from . import nvml

BUSY_CORES = 0.25
"""Cores that other processes may use, on average, before a number is flagged `busy`; of many cores, `BUSY_SHARE`."""
BUSY_SHARE = 0.05
STOLEN_SHARE = 0.02
"""Share of processor time that a host may take from this virtual machine."""
THROTTLES = {
    0x4: "power limit",
    0x8: "hardware slowdown",
    0x20: "too hot",
    0x40: "too hot",
    0x80: "power brake",
}
"""Bits of NVML's reasons for lower clocks that make a timing too long."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Seconds since some moment: `wall`, and of all cores together those busy, those ours, and those the host took."""

    wall: float
    busy: float
    own: float
    stolen: float


def read() -> Reading:
    """Now. `own` is this process and its children that have ended."""
    times = psutil.cpu_times()
    stolen = float(getattr(times, "steal", 0.0))
    idle = float(times.idle) + float(getattr(times, "iowait", 0.0))
    # guest time is part of user time already
    whole = sum(times) - float(getattr(times, "guest", 0.0)) - float(getattr(times, "guest_nice", 0.0))
    mine = psutil.Process().cpu_times()
    own = float(mine.user + mine.system + mine.children_user + mine.children_system)
    return Reading(time.monotonic(), whole - idle - stolen, own, stolen)


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Between two readings: cores that others used on average, and the share of processor time that the host took."""

    cores: float
    stolen: float

    def flags(self, available: int) -> tuple[str, ...]:
        """`busy` and `stolen_time`, on a machine with so many cores."""
        busy = self.cores > max(BUSY_CORES, BUSY_SHARE * available)
        flags = [*(["busy"] if busy else []), *(["stolen_time"] if self.stolen > STOLEN_SHARE else [])]
        return tuple(flags)


def between(before: Reading, after: Reading, available: int) -> Disturbance:
    """What others did. Clock ticks of 10 ms make short spans uncertain, so that less than nothing is nothing."""
    wall = max(after.wall - before.wall, 1e-9)
    others = (after.busy - before.busy) - (after.own - before.own)
    return Disturbance(max(others / wall, 0.0), max((after.stolen - before.stolen) / wall / max(available, 1), 0.0))


def cores() -> int:
    """Of the machine whose times `read` gives."""
    return psutil.cpu_count() or 1


@dataclass
class Guard:
    """Watches from its making on."""

    look: Callable[[], Reading] = read
    before: Reading = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.look()

    def disturbance(self) -> Disturbance:
        return between(self.before, self.look(), cores())


def wait_idle(
    seconds: float,
    *,
    look: Callable[[], Reading] = read,
    sleep: Callable[[float], None] = time.sleep,
    pause: float = 1.0,
) -> Disturbance:
    """Looks for `pause` seconds at a time until the machine is idle, or for `seconds`; the last look. One at least."""
    waited = 0.0
    while True:
        before = look()
        sleep(pause)
        waited += pause
        found = between(before, look(), cores())
        if not found.flags(cores()) or waited >= seconds:
            return found


def told(found: Disturbance, available: int) -> str:
    """What spoils timings just now, in words; "" where nothing does."""
    flags = found.flags(available)
    parts = {
        "busy": f"other processes use {found.cores:.1f} of {available} cores",
        "stolen_time": f"the host takes {found.stolen:.0%} of the processor time",
    }
    return " and ".join(text for flag, text in parts.items() if flag in flags)


# ---- a GPU -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GpuState:
    """Clocks in MHz, temperature in degrees Celsius, power limit in W, why clocks are lower, and who else is there."""

    clock: float
    highest_clock: float
    temperature: float
    power_limit: float
    throttled: tuple[str, ...]
    others: int

    @property
    def flags(self) -> tuple[str, ...]:
        flags = [*(["throttled"] if self.throttled else []), *(["device_shared"] if self.others else [])]
        return tuple(flags)


def gpu(device: str) -> GpuState | None:
    """The state of a CUDA device, None on a CPU or where NVML does not tell."""
    if not device.startswith("cuda"):
        return None
    try:
        with nvml.opened(device) as (driver, handle):
            return gpu_state(driver, handle, os.getpid())
    except nvml.Unavailable:
        return None


def gpu_state(driver: Any, handle: Any, pid: int) -> GpuState:
    """What NVML says of a GPU; `pid` is the process that is not somebody else's."""
    reasons = int(driver.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    running = [each.pid for each in driver.nvmlDeviceGetComputeRunningProcesses(handle)]
    return GpuState(
        clock=float(driver.nvmlDeviceGetClockInfo(handle, driver.NVML_CLOCK_SM)),
        highest_clock=float(driver.nvmlDeviceGetMaxClockInfo(handle, driver.NVML_CLOCK_SM)),
        temperature=float(driver.nvmlDeviceGetTemperature(handle, driver.NVML_TEMPERATURE_GPU)),
        power_limit=driver.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3,
        throttled=tuple(sorted({words for bit, words in THROTTLES.items() if reasons & bit})),
        others=sum(each != pid for each in running),
    )
