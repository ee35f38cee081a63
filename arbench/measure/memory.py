"""Memory of this process: resident set on the host, the allocator's and the driver's view on CUDA. All in bytes."""

from __future__ import annotations

import ctypes
import errno
import functools
import gc
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import psutil

from . import nvml

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_ROLLUP = Path("/proc/self/smaps_rollup")


class Meter(Protocol):
    """Memory on one device."""

    def settle(self) -> None:
        """Gives back what is free but still held, so that readings do not depend on what an allocator keeps."""
        ...

    def current(self) -> int:
        """Bytes in use now."""
        ...

    def own(self) -> int:
        """Those of them that the process has allocated: pages of files, such as libraries' code, left out."""
        ...

    def reset(self) -> bool:
        """Starts a new peak; False where the system cannot, so that the peak is of the whole process."""
        ...

    def peak(self) -> int:
        """Most bytes in use since `reset`."""
        ...


def _high_water_mark() -> int | None:
    """VmHWM. Unlike ru_maxrss it does not start at the parent's peak, which a child inherits over fork and exec."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("VmHWM:")), None)
    return int(found.split()[1]) * 1024 if found else None


@functools.cache
def _trim() -> Callable[[int], int]:
    """malloc_trim of the C library, which has the freed pages of all arenas given back; nothing where it has none."""
    found: Callable[[int], int] = getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: 0)
    return found


def _allocated() -> int | None:
    """Resident pages that are of no file. Counted page by page: the totals in `status` are sums per CPU, and loose."""
    try:
        lines = _ROLLUP.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
    return sum(found) * 1024 if found else None


class HostMeter:
    """Resident set size of the process."""

    def settle(self) -> None:
        gc.collect()
        _trim()(0)

    def own(self) -> int:
        allocated = _allocated()
        return self.current() if allocated is None else allocated

    def current(self) -> int:
        return int(psutil.Process().memory_info().rss)

    def reset(self) -> bool:
        try:
            _CLEAR.write_text("5")  # Linux: sets VmHWM to the present resident set
        except OSError:
            return False
        return _high_water_mark() is not None

    def peak(self) -> int:
        mark = _high_water_mark()
        if mark is not None:
            return max(mark, self.current())  # the kernel updates the mark lazily
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class CudaMeter:
    """Bytes that torch's allocator has handed out on one GPU."""

    def __init__(self, device: str) -> None:
        self._device = device

    def settle(self) -> None:
        gc.collect()  # the allocator counts what is in use, so that its cache may stay

    def own(self) -> int:
        return self.current()

    def current(self) -> int:
        import torch

        torch.cuda.synchronize(self._device)
        return int(torch.cuda.memory_allocated(self._device))

    def reset(self) -> bool:
        import torch

        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)
        return True

    def peak(self) -> int:
        import torch

        torch.cuda.synchronize(self._device)
        return int(torch.cuda.max_memory_allocated(self._device))

    def reserved(self) -> int:
        """Peak of what the allocator took from the driver since `reset`; this decides whether a call fits."""
        import torch

        return int(torch.cuda.max_memory_reserved(self._device))


def meter_for(device: str) -> HostMeter | CudaMeter:
    return CudaMeter(device) if device.startswith("cuda") else HostMeter()


def driver_memory(device: str) -> tuple[int | None, str]:
    """Bytes of GPU memory that the driver counts for this process (NVML), or None and the reason."""
    try:
        with nvml.opened(device) as (driver, handle):
            running = driver.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.Unavailable as error:
        return None, str(error)
    mine = [entry.usedGpuMemory for entry in running if entry.pid == os.getpid()]
    if not mine or mine[0] is None:
        return None, "NVML does not list this process (containers hide process ids)"
    return int(mine[0]), ""


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or one that it was raised from or while handling, says that there was not enough memory."""
    seen: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in seen:
        if _says_so(each):
            return True
        seen.append(each)
        each = each.__cause__ or each.__context__
    return False


def _says_so(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error)
    # the CPU allocator, files mapped by torch and cuBLAS raise plain RuntimeErrors; NumPy's is a MemoryError
    return isinstance(error, RuntimeError) and (
        "DefaultCPUAllocator: can't allocate memory" in text
        or "DefaultCPUAllocator: not enough memory" in text
        or "Cannot allocate memory" in text
        or "CUDA out of memory" in text
        or "CUBLAS_STATUS_ALLOC_FAILED" in text
        or "CUDA error: out of memory" in text
    )
