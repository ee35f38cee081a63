"""Kernels that a call launches on a GPU, as the profiler of torch (CUPTI) sees them, in a call of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

COPIES = ("Memcpy", "Memset")
"""What the names of copies and fills begin with; the device's copy engine or a memory operation does them."""


@dataclass(frozen=True, slots=True)
class Launched:
    """kernels: that ran on the GPU, those within replayed CUDA graphs too; None with the `reason`. copies: copies and
    fills beside them."""

    kernels: int | None
    copies: int = 0
    reason: str = ""


def launched(call: Callable[[], object], device: str) -> Launched:
    """Makes `call` once under the profiler; on a CPU not at all."""
    if not device.startswith("cuda"):
        return Launched(None, reason="only a GPU has kernels to launch")
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize(device)
    try:
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            call()
            torch.cuda.synchronize(device)
        return tally(seen.events() or [])
    except RuntimeError as error:  # CUPTI may be in use by another profiler, or not permitted
        return Launched(None, reason=f"the profiler does not start: {str(error).splitlines()[0]}")


def tally(events: Iterable[Any]) -> Launched:
    """Of the profiler's events: those on the GPU, without the ranges that a program marks by name."""
    names = [each.name for each in events if each.device_type.name == "CUDA" and not each.is_user_annotation]
    copies = sum(name.startswith(COPIES) for name in names)
    if len(names) == copies:
        reason = "the profiler saw no kernel: CUPTI may not be permitted here"
        return Launched(None, copies, reason)
    return Launched(len(names) - copies, copies)
