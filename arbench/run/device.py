"""Which devices there are and what the machine is called, found out without importing torch."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, NoDevice

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of CPU per period that the container may use, "max" for no limit (Linux control groups v2)."""


@dataclass(frozen=True)
class Place:
    """Where a run is done: its device, resolved, and what `machine` calls it there."""

    device: str
    machine: str


def resolve_device(asked: str) -> str:
    """ "cpu", "cuda" or "cuda:N" for what was asked; "auto" is CUDA if there is one. Errors: `NoDevice`."""
    if asked == "cpu":
        return asked
    if asked != "auto" and not re.fullmatch(r"cuda(:\d+)?", asked):
        raise ConfigError(f"unknown device {asked!r}", "known: auto, cpu, cuda, cuda:N")
    count = cuda_devices()
    if asked == "auto":
        return "cuda" if count else "cpu"
    if not count:
        raise NoDevice(
            f"no CUDA device, and {asked} is asked for",
            why_no_device(),
            "--device cpu, or of a suite --set settings.device=cpu; see `arbench doctor`",
        )
    if ":" in asked and int(asked.split(":")[1]) >= count:
        raise NoDevice(f"no device {asked}", f"there are {count}: cuda:0 to cuda:{count - 1}", "choose one of them")
    return asked


def all_devices(device: str) -> tuple[str, ...]:
    """The devices that a resolved device stands for: "cuda" is every visible one."""
    if device != "cuda":
        return (device,)
    return tuple(f"cuda:{index}" for index in range(max(cuda_devices(), 1)))


@functools.cache
def cuda_devices() -> int:
    """CUDA devices that a torch process started from here would see."""
    if not _torch_has_cuda():
        return 0
    physical = len(_gpu_names())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return physical
    count = 0
    for item in visible.split(","):  # CUDA stops at the first entry that is not a device
        name = item.strip()
        if not name or (name.lstrip("-").isdigit() and not 0 <= int(name) < physical):
            break
        count += 1
    return count if physical else 0


def _torch_has_cuda() -> bool:
    """Whether torch is built for CUDA, read from its version file because importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^cuda\b[^=]*=\s*['\"]", text, re.MULTILINE) is not None


@functools.cache
def _gpu_names() -> tuple[str, ...]:
    """Names of all GPUs by NVML index; empty without a driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return ()  # no library or no driver: there is no GPU to speak of
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def why_no_device() -> str:
    """Why there is no CUDA device here."""
    if not _torch_has_cuda():
        return "torch is installed without CUDA"
    return "CUDA_VISIBLE_DEVICES hides every GPU" if _gpu_names() else "no NVIDIA driver answers"


def cores() -> int:
    """Processor cores that a run may use: by affinity and the container's quota, and not above OMP_NUM_THREADS."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [count]
    wish = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wish.isdigit():
        limits.append(int(wish))
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        limits.append(round(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max": no quota
        pass
    return max(1, min(limits))


def machine(device: str) -> str:
    """The device class that speed and memory results belong to: GPU name, or processor name and cores."""
    if device == "cpu":
        return f"{_processor()}, {cores()} cores"
    index = int(device.split(":")[1]) if ":" in device else 0
    visible = [item.strip() for item in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if index < len(visible) and visible[index].isdigit():
        index = int(visible[index])
    names = _gpu_names()
    return names[index] if index < len(names) else "CUDA device"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()
