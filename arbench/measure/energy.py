"""Energy that a device has taken, by its own counter: NVML's of a GPU, RAPL's of the processors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import nvml
from .clock import Clock

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the counters of processors, Intel's and AMD's."""
BLOCK_SECONDS = 2.0
"""Length of the blocks whose scatter is the interval: far above the tens of milliseconds between two updates of NVML's
counter."""
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Counter:
    """joules: read now, since some moment. what: whose energy it is."""

    joules: Callable[[], float]
    what: str


@contextmanager
def counter(device: str, powercap: Path = POWERCAP) -> Iterator[Counter]:
    """The counter of a device. Raises `nvml.Unavailable` with the reason where there is none that may be read."""
    if not device.startswith("cuda"):
        yield _rapl(powercap)
        return
    with nvml.opened(device) as (driver, handle):

        def joules() -> float:
            return float(driver.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3  # it counts millijoules

        joules()  # where it is not supported or not permitted, this says so
        yield Counter(joules, "the GPU alone, by NVML's counter")


def _rapl(powercap: Path) -> Counter:
    """The sum over the processor packages. Counters start anew at their range, which takes many minutes."""
    domains = [each for each in sorted(powercap.glob("intel-rapl:*")) if re.fullmatch(r"intel-rapl:\d+", each.name)]
    domains = [each for each in domains if (each / "name").read_text(encoding="ascii").startswith("package")]
    if not domains:
        raise nvml.Unavailable(f"an energy counter of the processor (RAPL) was not found in {powercap}")

    def read(name: str) -> NDArray[np.int64]:
        return np.array([int((each / name).read_text(encoding="ascii")) for each in domains], dtype=np.int64)

    try:
        before, ranges = read("energy_uj"), read("max_energy_range_uj")
    except OSError as error:
        raise nvml.Unavailable(f"the processor's energy counter (RAPL) may not be read: {error.strerror}") from error
    total = np.zeros(len(domains), dtype=np.int64)

    def joules() -> float:
        nonlocal before, total
        now = read("energy_uj")
        total = total + np.where(now >= before, now - before, now - before + ranges)
        before = now
        return float(total.sum()) / 1e6

    return Counter(joules, "the processor packages, by RAPL's counters, without memory")


@dataclass(frozen=True)
class Spent:
    """marks: (m, 3) seconds, joules and images so far, at the begin, after each block of calls, and at the end.
    idle: (2,) W in a window without calls, before and after them."""

    marks: NDArray[np.float64]
    idle: NDArray[np.float64]
    calls: int

    @property
    def seconds(self) -> float:
        return float(self.marks[-1, 0] - self.marks[0, 0])

    @property
    def gross(self) -> float:
        """Joules of the calls."""
        return float(self.marks[-1, 1] - self.marks[0, 1])

    @property
    def net(self) -> float:
        """Joules beyond what the device takes when it has nothing to do, the mean of both windows."""
        return self.gross - float(self.idle.mean()) * self.seconds

    @property
    def images(self) -> int:
        return int(self.marks[-1, 2] - self.marks[0, 2])

    @property
    def blocks(self) -> NDArray[np.float64]:
        """(m - 1,) joules an image in each block."""
        steps = np.diff(self.marks, axis=0)
        per_image: NDArray[np.float64] = steps[:, 1] / steps[:, 2]
        return per_image

    @property
    def went_back(self) -> bool:
        """Whether the counter was reset meanwhile, so that nothing of this is an energy."""
        return bool((np.diff(self.marks[:, 1]) < 0).any() or (self.idle < 0).any())


def spend(
    call: Callable[[int], object],
    images: int,
    counted: Counter,
    clock: Clock,
    *,
    seconds: float,
    idle_seconds: float,
    warm_up: int,
    sleep: Callable[[float], Any],
    progress: Callable[[int], None] = lambda calls: None,
) -> Spent:
    """An idle window, `warm_up` calls, calls for `seconds` at least, another idle window. `call` is given the number of
    the call, and each makes so many `images`. The device is waited for before each reading."""

    def idle() -> float:
        start, before = clock.now(), counted.joules()
        sleep(idle_seconds)
        return (counted.joules() - before) / (clock.now() - start)

    before = idle()
    for index in range(warm_up):
        call(index)
    marks = [(clock.now(), counted.joules(), 0)]
    calls, start = 0, marks[0][0]
    while marks[-1][0] - start < seconds:
        begin = now = clock.now()
        while now - begin < BLOCK_SECONDS and (now - start < seconds or begin == now):
            call(warm_up + calls)
            calls += 1
            now = clock.now()
            progress(warm_up + calls)
        marks.append((now, counted.joules(), calls * images))
    return Spent(np.array(marks, dtype=np.float64), np.array([before, idle()]), calls)


def carbon(joules: float, intensity: float) -> float:
    """Grams of CO2 equivalent, at so many grams a kilowatt hour."""
    return joules / JOULES_PER_KWH * intensity
