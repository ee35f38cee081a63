"""One attempt at a batch size, in a process of its own: `python -m arbench.tasks.memory.attempt`, a job on its input.

The job is a JSON object {cell, device, batch, limit, weights}. What the attempt came to is its exit status: FITS,
TOO_LARGE, or another one for an error, which is told on standard error.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ...errors import FAILED, ArbenchError, CellError
from ...measure.memory import out_of_memory
from ...spec.cell import Cell

FITS, TOO_LARGE = 0, 75
NEAR = 0.05
"""The search ends when the largest batch that fits is known to this part of it, or to one image."""


def largest_fit(fits: Callable[[int], bool], most: int) -> tuple[int, int]:
    """The largest batch up to `most` that fits, and the smallest that was seen not to; 0 for neither.

    Doubles from 1 on, then bisects. Assumes that where a batch fits, smaller ones do.
    """
    low, high = 0, 0
    while not high and low < most:
        batch = min(max(2 * low, 1), most)
        low, high = (batch, 0) if fits(batch) else (low, batch)
    while high and high - low > max(1, NEAR * low):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low, high


def attempt(cell: Cell, batch: int, device: str, limit: int | None, weights: Mapping[str, Path]) -> bool:
    """Whether two calls of this batch size end within `limit` bytes, in a fresh process.

    Raises CellError if the process ends in any other way than by a lack of memory.
    """
    job = {
        "cell": cell.plain(),
        "device": device,
        "batch": batch,
        "limit": limit,
        "weights": {name: str(path) for name, path in weights.items()},
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", __name__],
        input=json.dumps(job),
        text=True,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode in (FITS, TOO_LARGE, -signal.SIGKILL):
        return done.returncode == FITS
    lines = done.stderr.strip().splitlines()
    why = lines[-1] if lines else f"its process ended with status {done.returncode}"
    raise CellError(f"{cell.adapter}: a call of batch {batch} failed", why)


def _limit(device: str, limit: int) -> None:
    """Has allocations beyond `limit` bytes fail, as far as the system can: of private data, or of the GPU's memory."""
    import torch

    if device.startswith("cuda"):
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(limit / total, 1.0), device)
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def main() -> int:
    import torch

    from ... import registry
    from ..calls import whole_call
    from ..context import WorkerContext
    from .work import CALLS_OF_ATTEMPT

    job = json.load(sys.stdin)
    cell, device = Cell.model_validate(job["cell"]), job["device"]
    try:
        # before the limit: modules that lack memory while they are imported fail in ways that do not say so
        registry.resolve(registry.card(cell.adapter).implementation)
        if job["limit"] is not None:
            _limit(device, job["limit"])
        with torch.inference_mode():
            call = whole_call(cell, job["batch"], WorkerContext(device, job["weights"]))
            for index in range(CALLS_OF_ATTEMPT):
                call(range(index * job["batch"], (index + 1) * job["batch"]))
    except Exception as error:
        if out_of_memory(error):
            return TOO_LARGE
        told = f"{error.what}: {error.why}" if isinstance(error, ArbenchError) else f"{type(error).__name__}: {error}"
        sys.stderr.write("\n" + " ".join(told.split()) + "\n")
        return FAILED
    return FITS


if __name__ == "__main__":
    sys.exit(main())
