"""The GPU of torch's device as NVML knows it: opened for a block, or why it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Unavailable(Exception):
    """What was to be read is not to be had on this machine; the text says why."""


@contextmanager
def opened(device: str) -> Iterator[tuple[Any, Any]]:
    """The module pynvml and its handle of a CUDA device. Raises `Unavailable`, also where a call in the block fails."""
    try:
        import pynvml
    except ImportError:
        raise Unavailable("the package nvidia-ml-py is not installed") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise Unavailable(f"NVML does not start: {error}") from error
    try:
        import torch

        # CUDA numbers the visible devices, NVML all of them: the UUID is the same in both
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        yield pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}".encode())
    except pynvml.NVMLError as error:
        raise Unavailable(f"NVML cannot tell: {error}") from error
    finally:
        pynvml.nvmlShutdown()
