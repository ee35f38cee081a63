"""The numerical precision of a mode: float32 without TF32 for parity, bfloat16 and TF32 on CUDA for fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..extractor import Mode


@contextmanager
def precision(device: torch.device, mode: Mode) -> Iterator[None]:
    """Inside, matrix products and convolutions on `device` run in the precision of `mode`; the settings come back.

    On a CPU both modes are float32, and nothing changes.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn  # whose stubs know no `conv`
    backends = (torch.backends.cuda.matmul, cudnn.conv)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "tf32" if mode == "fast" else "ieee"
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=mode == "fast"):
            yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
