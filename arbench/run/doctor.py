"""What `arbench doctor` looks at: whether this machine is fit to run and to measure. Imports no torch."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import psutil

from .. import registry, weights
from ..errors import ArbenchError
from ..features.weight_files import WEIGHTS, feature_weights
from ..measure import guard
from .device import cuda_devices, machine, resolve_device, why_no_device

State = Literal["ok", "warn", "fail"]
ROOM = 2_000_000_000
"""Bytes of disk and memory below which a small run may not end."""
BUSY = 50.0
"""Per cent of one core from which on another process is said to be at work."""
HOT = 90
"""Degrees Celsius from which on processors throttle."""
EXTRAS = {"transformers": ("captions for text-to-image models", "pip install 'arbench[text]'")}
"""Optional packages -> what they are for, and how to get them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: what was looked at, how it is, in words, and what to do next ("" where nothing is to be done)."""

    check: str
    state: State
    what: str
    next: str = ""
    spoils: bool = False
    """Whether a timing taken now would be spoilt by it."""


def examine(runs: Path) -> list[Finding]:
    """All findings; `runs` is where runs would be written. A check that breaks is a finding too."""
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("python", _python),
        ("device", _device),
        ("processor", _processor),
        ("memory", _memory),
        ("processes", _processes),
        ("load", _load),
        ("disk", lambda: _disk(runs)),
        ("weights", _weights),
        ("adapters", _adapters),
        ("extras", _extras),
        ("tracking", _tracking),
    )
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check()
        except Exception as error:  # the doctor itself must not fall ill: a system may lack any of these readings
            found.append(Finding(name, "warn", f"could not be looked at: {type(error).__name__}: {error}"))
    return found


def _python() -> Iterator[Finding]:
    versions = []
    for name in ("torch", "numpy", "safetensors"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding("python", "fail", f"{name} is not installed", f"{sys.executable} -m pip install {name}")
    yield Finding("python", "ok", ", ".join((f"Python {platform.python_version()}", *versions)))


# ---- the machine -----------------------------------------------------------------------------------------------------


def _device() -> Iterator[Finding]:
    count = cuda_devices()
    if not count:
        reason = why_no_device()
        hidden = reason.startswith("CUDA_VISIBLE")
        step = "unset CUDA_VISIBLE_DEVICES" if hidden else "--device cpu is what `auto` takes here"
        yield Finding("device", "warn" if hidden else "ok", f"no CUDA device ({reason})", step)
        return
    yield Finding("device", "ok", f"{count} x {machine(resolve_device('cuda'))}")
    yield from _gpus()


def _gpus() -> Iterator[Finding]:
    """Driver, throttling and other processes of each GPU, as NVML tells them."""
    import pynvml

    pynvml.nvmlInit()
    try:
        yield Finding("driver", "ok", f"NVIDIA {_text(pynvml.nvmlSystemGetDriverVersion())}")
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            name = f"GPU {index}"
            yield _throttling(pynvml, handle, name)
            try:
                running = [each.pid for each in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]
            except pynvml.NVMLError:
                running = []
            others = [pid for pid in running if pid != os.getpid()]
            held = pynvml.nvmlDeviceGetMemoryInfo(handle)
            free = f"{held.free / 1e9:.1f} of {held.total / 1e9:.1f} GB free"
            if others:
                what = f"{name}: {free}; other processes use it: {', '.join(map(str, others[:6]))}"
                step = "timings are only good alone: wait, or choose another device"
                yield Finding("processes", "warn", what, step, spoils=True)
            else:
                yield Finding("processes", "ok", f"{name}: {free}, no other process")
    finally:
        pynvml.nvmlShutdown()


def _throttling(nvml: Any, handle: Any, name: str) -> Finding:
    try:
        reasons = int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        heat = int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    except nvml.NVMLError:
        return Finding("throttling", "ok", f"{name}: the driver does not tell")
    found = sorted({words for bit, words in guard.THROTTLES.items() if reasons & bit})
    if found:
        step = "let it cool down, or see: nvidia-smi -q -d PERFORMANCE"
        return Finding("throttling", "warn", f"{name}: {', '.join(found)} at {heat} C", step, spoils=True)
    return Finding("throttling", "ok", f"{name}: none, {heat} C")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _processor() -> Iterator[Finding]:
    yield Finding("processor", "ok", machine("cpu"))
    wished = os.environ.get("OMP_NUM_THREADS", "")
    if wished.isdigit() and int(wished) < (os.cpu_count() or 1):
        yield Finding("processor", "ok", f"OMP_NUM_THREADS={wished} limits it", "unset OMP_NUM_THREADS for all cores")
    hot = _heat()
    if hot is not None and hot >= HOT:
        step = "let it cool down before timing"
        yield Finding("throttling", "warn", f"the processor has {hot:.0f} C", step, spoils=True)


def _heat() -> float | None:
    read = getattr(psutil, "sensors_temperatures", None)
    values = [each.current for group in (read() if read else {}).values() for each in group if each.current]
    return max(values, default=None)


def _memory() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    what = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    short = memory.available < ROOM
    yield Finding("memory", "warn" if short else "ok", what, "close other programs" if short else "")


def _processes() -> Iterator[Finding]:
    """What else keeps processors busy, measured for a moment."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    watched = []
    for process in psutil.process_iter(["pid", "name"]):
        try:
            process.cpu_percent()
            watched.append(process)
        except psutil.Error:
            continue
    psutil.cpu_percent(interval=0.2)
    busy = []
    for process in watched:
        try:
            load = process.cpu_percent()
        except psutil.Error:
            continue
        if load >= BUSY and process.pid not in own:
            busy.append((load, process.info["name"], process.pid))
    if not busy:
        yield Finding("processes", "ok", f"no other process uses {BUSY:.0f} % of a core or more")
        return
    shown = ", ".join(f"{name} ({pid}, {load:.0f} %)" for load, name, pid in sorted(busy, reverse=True)[:4])
    step = "timings are only good on an idle machine: wait for them"
    yield Finding("processes", "warn", f"busy: {shown}", step, spoils=True)


def _load() -> Iterator[Finding]:
    """What all others together use, also where their processes cannot be seen, and what a host takes."""
    found = guard.wait_idle(0.0, pause=0.3)
    average = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    spoils = guard.told(found, guard.cores())
    if spoils:
        step = "timings would be flagged: wait, or run with --wait-idle SECONDS"
        yield Finding("load", "warn", f"{spoils}; load average {average}", step, spoils=True)
    else:
        yield Finding("load", "ok", f"others use {found.cores:.1f} of {guard.cores()} cores; load average {average}")


def _disk(runs: Path) -> Iterator[Finding]:
    for what, folder in (
        ("runs", runs),
        ("weights", weights.folder()),
        ("temporary files", Path(tempfile.gettempdir())),
    ):
        place = next((each for each in (folder, *folder.absolute().parents) if each.is_dir()), Path("/"))
        if not os.access(place, os.W_OK):
            yield Finding("disk", "fail", f"{what}: no permission to write to {place}", "name another folder")
            continue
        free = shutil.disk_usage(place).free
        text = f"{what}: {free / 1e9:.1f} GB free at {place}"
        yield (
            Finding("disk", "warn", text, "make room, or name another folder")
            if free < ROOM
            else Finding("disk", "ok", text)
        )


# ---- what arbench needs ----------------------------------------------------------------------------------------------


def _weights() -> Iterator[Finding]:
    """Feature networks' weights: absent ones are not a fault, damaged ones are."""
    known = feature_weights({})
    here: list[str] = []
    absent: list[str] = []
    for name in WEIGHTS:
        try:
            found = known.find(name)
        except ArbenchError as error:
            yield Finding("weights", "fail", error.what + (f": {error.why}" if error.why else ""), error.hint)
            continue
        (here if found is not None else absent).append(name)
    if here:
        yield Finding("weights", "ok", f"here: {', '.join(here)}")
    if absent:
        step = f"arbench weights fetch {absent[0]}; or name a file: --weights {absent[0]}=PATH"
        yield Finding("weights", "warn", f"not here, so their numbers will be null: {', '.join(absent)}", step)


def _adapters() -> Iterator[Finding]:
    ready, lacking = 0, []
    for card in registry.cards().values():
        path = weights.find(card)
        if card.checkpoint is not None and card.checkpoint.packaged and (path is None or not path.is_file()):
            lacking.append(card.name)
        ready += path is not None and path.is_file()
    count = len(registry.cards())
    if lacking:
        what = f"weights that come with the package are not there: {', '.join(lacking[:4])}"
        yield Finding("adapters", "fail", what, "install arbench again")
    yield Finding("adapters", "ok", f"{ready} of {count} have their weights here", "arbench ls adapters")


def _extras() -> Iterator[Finding]:
    for name, (use, step) in EXTRAS.items():
        if importlib.util.find_spec(name) is None:
            yield Finding("extras", "ok", f"{name} is not installed ({use})", step)
        else:
            yield Finding("extras", "ok", f"{name} {version(name)} ({use})")


def _tracking() -> Iterator[Finding]:
    """Where MLflow logs to, unless `--track` says otherwise; only what is known without asking a server."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not given:
        yield Finding("tracking", "ok", "MLflow logs into a database in each run's folder; see --track")
        return
    yield Finding("tracking", "ok", f"MLflow logs to {given}, as MLFLOW_TRACKING_URI says")
