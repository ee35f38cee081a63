"""The work of `memory`: a meter around loading and around calls, in a worker of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from ...measure.memory import CudaMeter, HostMeter, driver_memory, meter_for
from ...spec.cell import Cell
from ...spec.result import At, Metric
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored
from ..calls import whole_call
from . import Memory
from .attempt import attempt, largest_fit

CALLS_OF_ATTEMPT = 2
"""Calls that must end for a batch size to fit."""
SHARE = 0.8
"""Of the host's free memory, what an attempt may take where the task names no limit."""
CALLS, MOST_CALLS = 4, 10
"""Calls behind a peak: the first allocates workspaces, the second shows that they are reused, the others whether memory
in use grows from call to call. While it does there are more, up to the second number: a few may all go up by chance."""
LEAK_BYTES = 2**20
"""What a call must add at least for memory to be said to grow. Without a leak, what is in use once freed pages are
given back moves by some 20 KiB from call to call, whatever the batch; the resident set does by up to 40 MiB."""


class MemoryWork:
    """A unit is one batch size; the worker is a process of its own, so that its memory is this cell's alone."""

    def __init__(
        self,
        meter_for: Callable[[str], HostMeter | CudaMeter] = meter_for,
        attempt: Callable[[Cell, int, str, int | None, Mapping[str, Path]], bool] = attempt,
    ) -> None:
        self._meter_for = meter_for
        self._attempt = attempt

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        if unit.start == 0:
            return self._search(cell, unit.stop, context)
        meter = self._meter_for(context.device)
        batch = unit.start
        meter.settle()
        before = meter.current()
        meter.reset()
        call = whole_call(cell, batch, context)
        loading = meter.peak()
        meter.settle()
        after, own = meter.current(), meter.own()
        fresh = meter.reset()
        held: list[int] = []
        while len(held) < CALLS or (len(held) < MOST_CALLS and _grows(held)):
            call(range(len(held) * batch, (len(held) + 1) * batch))
            meter.settle()
            held.append(meter.own())
            context.progress(len(held))
        readings = {
            "batch": batch,
            "before": before,
            "after": after,
            "own": own,
            "loading": loading,
            "peak": meter.peak(),
            "last": meter.current(),
            "fresh": int(fresh),
        }
        arrays: Arrays = {name: np.array([value], dtype=np.int64) for name, value in readings.items()}
        arrays["held"] = np.array(held, dtype=np.int64)
        if isinstance(meter, CudaMeter):
            process, reason = driver_memory(context.device)
            arrays["reserved"] = np.array([meter.reserved()], dtype=np.int64)
            arrays["process"] = np.array([-1 if process is None else process], dtype=np.int64)
            arrays["process_reason"] = np.array([reason])
        return arrays

    def _search(self, cell: Cell, most: int, context: Context) -> Arrays:
        """The largest batch up to `most` that fits, each tried in a process of its own."""
        assert isinstance(cell.task, Memory)
        if cell.task.limit is not None:
            limit: int | None = int(cell.task.limit * 1e9)
        else:
            cuda = context.device.startswith("cuda")
            limit = None if cuda else int(SHARE * psutil.virtual_memory().available)
        tried: list[int] = []

        def fits(batch: int) -> bool:
            tried.append(batch)
            context.progress(len(tried))
            return self._attempt(cell, batch, context.device, limit, context.weight_files(cell))

        low, high = largest_fit(fits, most)
        numbers = {"batch": 0, "low": low, "high": high, "limit": -1 if limit is None else limit, "tried": len(tried)}
        return {name: np.array([value], dtype=np.int64) for name, value in numbers.items()}

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        searched = [unit for unit in units if not int(unit["batch"][0])]
        units = [unit for unit in units if int(unit["batch"][0])]
        cuda = context.device.startswith("cuda")
        metrics = [_file_metric(cell, context), *_load_metrics(units[0], cuda)]
        largest = 0
        for unit in units:
            batch = int(unit["batch"][0])
            flags = ("after_larger_batch",) if batch < largest else ()
            if not int(unit["fresh"][0]):
                flags = (*flags, "peak_of_process")
            growth = _growth(unit, batch)
            metrics += [*_peak_metrics(unit, batch, cuda, flags, growth.flags), growth]
            largest = max(largest, batch)
        metrics += [_largest(unit) for unit in searched]
        return Finished(tuple(metrics))


def _largest(unit: Stored) -> Metric:
    """What the search came to, with the limit in force."""
    low, high, limit, tried = (int(unit[name][0]) for name in ("low", "high", "limit", "tried"))
    allowed = "the device's memory" if limit < 0 else f"{limit / 1e9:.3g} GB"
    ended = f"{high} did not fit" if high else "none failed"
    return Metric(
        name="largest-batch",
        value=float(low) if low else None,
        n=tried,
        direction="higher",
        how=f"bisection over {tried} fresh processes; limit {allowed}; {ended}",
        measure="memory",
        reason="" if low else f"one image does not fit into {allowed}",
        flags=() if high else ("search_ended",),
    )


def _metric(name: str, value: float | None, n: int, how: str, **rest: Any) -> Metric:
    return Metric(name=name, value=value, unit="B", n=n, direction="lower", how=how, measure="memory", **rest)


def _file_metric(cell: Cell, context: Context) -> Metric:
    files = context.weight_files(cell)
    reason = "" if files else ("random weights" if cell.settings.init == "random" else "the adapter has no weight file")
    size = float(sum(map(_stored, files.values()))) if files else None
    text = "size of the weight files as stored, of the adapter and its tokenizer"
    return _metric("weights-file", size, len(files), text, reason=reason)


def _stored(path: Path) -> int:
    """Bytes of a file, or of those in a folder."""
    files = [each for each in path.iterdir() if each.is_file()] if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files)


def _load_metrics(unit: Stored, cuda: bool) -> list[Metric]:
    before, after, loading = (float(unit[name][0]) for name in ("before", "after", "loading"))
    if cuda:
        kind, what = "torch's allocator", "allocated"
    else:
        kind, what = "resident set of a process of its own", "resident (weights, and the code imported with them)"
    flags = () if int(unit["fresh"][0]) else ("peak_of_process",)
    return [
        _metric("baseline-memory", before, 1, f"{kind} before anything is loaded"),
        _metric("weights-memory", after - before, 1, f"{kind}: {what} after loading less before"),
        _metric("peak-memory-load", loading, 1, f"{kind}: most while loading, baseline included", flags=flags),
    ]


def _steps(held: Sequence[int]) -> NDArray[np.float64]:
    """Bytes that each call leaves behind, once the second has shown what is kept for the next ones."""
    return np.diff(held)[1:].astype(np.float64)


def _grows(held: Sequence[int]) -> bool:
    """Whether any two calls in a row left something behind; by two, since the system may hand out pages by 2 MiB."""
    steps = _steps(held)
    return bool((steps[1:] + steps[:-1] >= 2 * LEAK_BYTES).all())


def _growth(unit: Stored, batch: int) -> Metric:
    held = unit["held"].tolist()
    steps = _steps(held)
    return _metric(
        "memory-growth",
        float(np.median(steps)),
        len(steps),
        "median of what is in use after a call less what was after the call before, the first two calls left out",
        flags=("leak",) if len(held) >= MOST_CALLS and _grows(held) else (),
        at={"batch": batch},
    )


def _peak_metrics(unit: Stored, batch: int, cuda: bool, flags: tuple[str, ...], leak: tuple[str, ...]) -> list[Metric]:
    """`leak`: the flag of calls that all leave something behind, so that their peak depends on how many there were."""
    held = unit["held"].tolist()
    peak, calls = float(unit["peak"][0]), len(held)
    # above what was left in the end, and what the calls have left: both without pages of files
    needed = peak - float(unit["last"][0]) + held[-1] - float(unit["own"][0])
    at: dict[str, At] = {"batch": batch}
    if not cuda:
        text = f"peak resident set of a process of its own over {calls} calls, libraries included; batches in order"
        own = "the peak less what was resident before, without pages of files such as the code of libraries"
        return [
            _metric("peak-memory", peak, calls, text, flags=(*flags, *leak), at=at),
            _metric("call-memory", needed, calls, own, flags=flags, at=at),
        ]
    text = f"torch.cuda.max_memory_allocated over {calls} calls, weights included"
    process = int(unit["process"][0])
    reason = str(unit["process_reason"][0])
    return [
        _metric("peak-memory", peak, calls, text, flags=(*flags, *leak), at=at),
        _metric("call-memory", needed, calls, "the peak less what was allocated before", flags=flags, at=at),
        _metric(
            "reserved-memory",
            float(unit["reserved"][0]),
            calls,
            "torch.cuda.max_memory_reserved: what the allocator holds, used or not",
            at=at,
        ),
        _metric(
            "process-memory",
            float(process) if process >= 0 else None,
            1,
            "NVML, this process after the calls: context and libraries included",
            reason=reason if process < 0 else "",
            at=at,
        ),
    ]
