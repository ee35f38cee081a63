"""A worker process: does the units and the finishing of cells that the supervisor sends down a pipe.

Forked by the nursery, or started as `python -m arbench.run.worker FD PARENT`. Messages are JSON objects, both ways:

    to the worker     {"do": "start", folder, device, threads, weights, executor}, then any number of
                      {"do": "unit", cell, unit} and {"do": "finish", cell, units, started, seconds, halved};
                      the end of the pipe means: exit
    from the worker   {"kind": "ready", "pid"}                      torch is imported, once
                      {"kind": "progress", done}
                      {"kind": "unit", unit, digest, seconds}       the npz is on disk
                      {"kind": "finished", digest, files}           result.json is on disk
                      {"kind": "failed", outcome, reason}           the traceback is in log.txt
                      {"kind": "store", what, why}                  the disk refused
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import images, registry
from ..errors import ArbenchError, StoreError, Unsupported
from ..features.unit_features import UnitFile
from ..files import DISK_ERRORS, write_atomic
from ..measure import device_rates
from ..measure.memory import out_of_memory
from ..measure.provenance import provenance
from ..measure.threads import SAMPLING_THREADS, use_threads
from ..spec.cell import Cell
from ..spec.result import Outcome, Result
from ..spec.task import tasks
from ..spec.unit import Unit
from ..tasks.base import Finished, Work
from .orphan import die_with
from .results import finite, flagged, identity_fields
from .wire import receive, send

if TYPE_CHECKING:
    from ..tasks.context import WorkerContext

PROGRESS_SECONDS = 0.2
"""The least time between two progress messages."""


class Worker:
    """One process's state: where results go, its context (made with the first cell), the log of the cell at hand."""

    def __init__(
        self, pipe: Connection, folder: Path, device: str, threads: int, weights: dict[str, str], executor: str
    ) -> None:
        self._pipe = pipe
        self._folder = folder
        self._device = device
        self._threads = threads
        self._weights = weights
        self._executor = executor
        self._context: WorkerContext | None = None
        self._adapter = ""
        self._log = ""
        self._told = 0.0

    def do(self, message: dict[str, Any]) -> dict[str, Any]:
        """Does one message and returns the answer."""
        cell = Cell.model_validate(message["cell"])
        try:
            self._switch_log(cell)
            if message["do"] == "unit":
                return self._unit(cell, Unit.model_validate(message["unit"]))
            return self._finish(cell, message)
        except BaseException as error:  # an adapter may ask to leave the process: its cell has failed, not the worker
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                error = StoreError("the worker cannot write", error.strerror or "")
            if isinstance(error, StoreError):
                return {"kind": "store", "what": error.what, "why": error.why}
            with contextlib.suppress(OSError):  # the disk that holds the log may be full
                traceback.print_exc()
            outcome, reason = classify(error)
            return {"kind": "failed", "outcome": outcome, "reason": reason}

    def _unit(self, cell: Cell, unit: Unit) -> dict[str, Any]:
        begin = time.perf_counter()
        import torch

        # speed and memory are of a call with all that the worker may use
        use_threads(self._threads if tasks()[cell.task.task].exclusive else SAMPLING_THREADS)
        context, work = self._open(cell)
        with torch.inference_mode():
            arrays = work.measure(cell, unit, context)
        path = self._folder / "cells" / cell.result_id / "units" / f"{unit.name}.npz"
        digest = write_atomic(path, images.pack(arrays))
        return {"kind": "unit", "unit": unit.name, "digest": digest, "seconds": time.perf_counter() - begin}

    def _finish(self, cell: Cell, message: dict[str, Any]) -> dict[str, Any]:
        begin = time.perf_counter()
        use_threads(self._threads)
        context, work = self._open(cell)
        here = self._folder / "cells" / cell.result_id
        units = [UnitFile(here / "units" / f"{name}.npz") for name in message["units"]]
        finished = work.finish(cell, units, context)
        files = {name: (kind, self._keep(here, name, data)) for kind, name, data in _files(finished)}
        result = Result(
            **identity_fields(cell),
            outcome="ok",
            metrics=tuple(flagged(finite(metric), cell, halved=message["halved"]) for metric in finished.metrics),
            speed=finished.speed,
            samples=finished.samples,
            reference=finished.reference,
            remarks=finished.remarks,
            artifacts={kind: name for name, (kind, _) in files.items()},
            provenance=provenance(context.device, cell, finished.weights).model_copy(
                update={"executor": self._executor}
            ),
            started=message["started"],
            wall_seconds=message["seconds"] + time.perf_counter() - begin,
        )
        digest = write_atomic(here / "result.json", (result.model_dump_json(indent=1) + "\n").encode())
        return {"kind": "finished", "digest": digest, "files": {name: own for name, (_, own) in files.items()}}

    def _keep(self, here: Path, name: str, data: bytes) -> str:
        """Writes a file beside the result; returns its digest."""
        return write_atomic(here / _plain_name(name), data)

    def _open(self, cell: Cell) -> tuple[WorkerContext, Work]:
        """The context and the work of a cell. An adapter stays loaded until a cell of another one comes."""
        from ..tasks.context import WorkerContext

        registry.card(cell.adapter)
        work: Work = registry.resolve(tasks()[cell.task.task].work)()
        if self._context is not None and self._adapter != cell.adapter:
            self._context.close()
            self._context = None
        if self._context is None:
            self._context = WorkerContext(self._device, self._weights, self._progress)
        self._adapter = cell.adapter
        return self._context, work

    def _progress(self, done: int) -> None:
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            send(self._pipe, {"kind": "progress", "done": done})

    def _switch_log(self, cell: Cell) -> None:
        """From here on, all that the process prints goes to the cell's log, and so does a dump if it is killed."""
        if self._log == cell.result_id:
            return
        sys.stdout.flush()
        sys.stderr.flush()
        point_output_at(self._folder / "cells" / cell.result_id / "log.txt")
        self._log = cell.result_id


def _files(finished: Finished) -> Iterator[tuple[str, str, bytes]]:
    """(what it is, file name, content) of everything that goes beside a result."""
    if finished.gallery is not None:
        yield "pictures", "pictures.npz", finished.gallery.pack()
        yield "sheet", "pictures.png", finished.gallery.sheet()
    if finished.worst is not None:
        yield "worst", "worst.npz", finished.worst.pack()
    if finished.worst_lpips is not None:
        yield "worst-lpips", "worst-lpips.npz", finished.worst_lpips.pack()
    if finished.latency is not None:
        yield "latency", "latency.npz", finished.latency
    for name, data in finished.files.items():
        yield name, name, data


def point_output_at(path: Path) -> None:
    """Standard output and error to the end of the file at `path`, interpreter and C code alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _plain_name(name: str) -> str:
    if Path(name).name != name or name in ("result.json", "log.txt", "units"):
        raise ValueError(f"an artifact's name is a plain file name, not {name!r}")
    return name


def classify(error: BaseException) -> tuple[Outcome, str]:
    """Outcome and one-line reason of an exception that a task raised."""
    if isinstance(error, ArbenchError):
        reason = "; ".join(part for part in (error.what, error.why) if part)
        return ("unsupported" if isinstance(error, Unsupported) else "error"), reason
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return ("oom" if out_of_memory(error) else "error"), reason[:300]


def _listen(pipe: Connection, inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Reads the pipe, in a thread: if it ends while a unit is at work, the supervisor is gone and so are we."""
    while True:
        try:
            inbox.put(receive(pipe))
        except (EOFError, OSError):
            os._exit(0)


def serve(descriptor: int, parent: int) -> None:
    """Does what comes down the pipe with this file descriptor, and ends the process with it, or with its parent."""
    die_with(parent)
    # a dump of every thread's stack into the log, then the usual death
    faulthandler.enable(all_threads=True)
    faulthandler.register(signal.SIGTERM, all_threads=True, chain=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Connection(descriptor)
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, inbox), daemon=True).start()
    start = inbox.get()
    import_module("torch")  # the patience with a worker that starts ends with "ready"
    gc.freeze()  # what is imported stays: collecting garbage around measured calls need not walk it
    os.environ.setdefault(device_rates.FOLDER, str(device_rates.folder()))  # of the machine, not of the run
    os.environ.setdefault("ARBENCH_CACHE", str(Path(start["folder"]) / "cache"))  # reference features of the run
    send(pipe, {"kind": "ready", "pid": os.getpid()})
    worker = Worker(pipe, Path(start["folder"]), start["device"], start["threads"], start["weights"], start["executor"])
    while True:
        answer = worker.do(inbox.get())
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        try:
            send(pipe, answer)
        except OSError:
            os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
