"""What runs on a node of a Ray cluster: one worker process as on any machine, in a folder that is sent back."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil

from .. import __version__
from ..errors import StoreError
from ..files import write_atomic
from ..measure.provenance import packages
from .device import cores, machine
from .executor import Message, Slot
from .nursery import BLAS_THREADS, Nursery
from .pool import WorkerProcess, death

WAIT = 1.0
"""Seconds after which an exchange ends though the worker has said nothing."""
LOG_BYTES = 1 << 20
"""Of a log in one exchange; what a worker prints beyond that within a second is left out."""


def versions() -> dict[str, str]:
    """Of what can change a number here."""
    return {"arbench": __version__, "python": platform.python_version(), **packages()}


LEFT_SECONDS = 3600.0
"""After which the folder of a run without workers is removed."""


def survey() -> dict[str, Any]:
    """What the driver must know of a node that we run on: its name, devices, processor cores and versions."""
    begun = psutil.Process().environ()  # Ray sets a number of threads in our environment that nobody has asked for
    for name in BLAS_THREADS:
        if name not in begun:
            os.environ.pop(name, None)
    devices = {device: machine(device) for device in ("cpu", "cuda")}
    return {"host": socket.gethostname(), "cores": cores(), "versions": versions(), **devices}


@dataclass(frozen=True)
class Order:
    """What a host is made for. `own_process`: the worker is not forked. `grace`: seconds between SIGTERM and SIGKILL.
    `environment`: the driver's variables that are arbench's."""

    run_id: str
    cell_id: str
    device: str
    threads: int
    weights: Mapping[str, str]
    own_process: bool
    grace: float
    environment: Mapping[str, str]


@dataclass(frozen=True)
class File:
    """A file of a cell on its way: a path below the cell's folder, and its content."""

    cell_id: str
    name: str
    data: bytes


@dataclass(frozen=True)
class Reply:
    """What has happened since the last exchange. `files` are those that the messages tell of, a `result.json` last."""

    messages: tuple[Message, ...]
    files: tuple[File, ...]
    logs: tuple[File, ...]
    """What was added to the logs of cells."""
    working: bool
    """Whether the worker was seen at work, though it may have said nothing."""


class Host:
    """A worker process on this node. An actor of Ray, whose calls come one after the other."""

    def __init__(self, order: Order) -> None:
        os.environ.update(order.environment)
        self._run = _folder_of(order.run_id)
        os.environ.setdefault("ARBENCH_CACHE", str(self._run / "cache"))  # reference features, once a node
        self._folder = _own_folder(self._run)
        self._grace = order.grace
        self._at = order.cell_id
        self._logs: dict[str, int] = {self._at: 0}
        self._nursery = None if order.own_process or sys.platform != "linux" else Nursery()
        log = self._cell(order.cell_id) / "log.txt"
        slot = Slot(order.device, order.threads)
        self._process = WorkerProcess(slot, self._folder, order.weights, log, self._nursery, executor="ray")

    def exchange(self, keep: Sequence[File], orders: Sequence[Message]) -> Reply:
        """Takes files and orders (as `arbench.run.worker` does; also {"do": "terminate"}); waits `WAIT` seconds at most
        for what the worker says, and not at all for files alone."""
        for file in keep:
            write_atomic(self._cell(file.cell_id) / file.name, file.data)
        for order in orders:
            if order["do"] == "terminate":
                self._process.terminate("timeout", self._grace)
            else:
                self._at = order["cell"]["result_id"]
                self._logs.setdefault(self._at, 0)
                self._process.order(order)
        before = self._process.worked
        messages: list[Message] = []
        files: list[File] = []
        patience = WAIT if orders or not keep else 0.0
        while wait([self._process.pipe], patience):
            message = self._process.hear() or self._ended()
            messages.append(message)
            files += self._made(message)
            patience = 0.0
            if message["kind"] not in ("ready", "progress"):  # an answer, or its end: a later end is the next job's
                break
        else:
            self._process.tick()
            self._process.look()
        printed = self._printed()
        if messages and messages[-1]["kind"] == "ended":
            self._clean()
        return Reply(tuple(messages), tuple(files), printed, self._process.worked > before)

    def end(self, busy: bool) -> Reply:
        """Ends the worker, which has not ended by itself, and removes what it has written here."""
        if busy:
            self._process.terminate("interrupted", self._grace)
        self._process.reap(self._grace)
        logs = self._printed()
        self._clean()
        return Reply((), (), logs, False)

    def _cell(self, cell_id: str) -> Path:
        return self._folder / "cells" / cell_id

    def _ended(self) -> Message:
        outcome, reason = death(self._process.reap(self._grace), self._process.killed_for_memory())
        return {"kind": "ended", "outcome": outcome, "reason": reason}

    def _made(self, message: Message) -> list[File]:
        """The files that a message tells of; they leave this node."""
        if message["kind"] == "unit":
            names = [f"units/{message['unit']}.npz"]
        elif message["kind"] == "finished":
            names = [*message["files"], "result.json"]
        else:
            return []
        here = self._cell(self._at)
        files = [File(self._at, name, (here / name).read_bytes()) for name in names]
        for name in names:
            (here / name).unlink()
        if message["kind"] == "finished":
            shutil.rmtree(here / "units", ignore_errors=True)
        return files

    def _printed(self) -> tuple[File, ...]:
        found = []
        for cell_id, size in self._logs.items():
            path = self._cell(cell_id) / "log.txt"
            with suppress(OSError), path.open("rb") as file:
                file.seek(size)
                data = file.read(LOG_BYTES)
                if data:
                    self._logs[cell_id] = path.stat().st_size
                    found.append(File(cell_id, "log.txt", data))
        return tuple(found)

    def _clean(self) -> None:
        if self._nursery is not None:
            self._nursery.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if not _is_used(self._run):
            shutil.rmtree(self._run, ignore_errors=True)


def _folder_of(run_id: str) -> Path:
    """Where a run has its files on this node, below a folder that nobody else can write."""
    mine = Path(tempfile.gettempdir()) / f"arbench-ray-{os.getuid()}"
    mine.mkdir(mode=0o700, exist_ok=True)
    if mine.is_symlink() or mine.stat().st_uid != os.getuid():
        raise StoreError(f"{mine} belongs to somebody else", "", "set TMPDIR to another folder on that node")
    for run in mine.iterdir():  # of a node that was killed
        if run.stat().st_mtime < time.time() - LEFT_SECONDS and not _is_used(run):
            shutil.rmtree(run, ignore_errors=True)
    return mine / run_id


def _own_folder(run: Path) -> Path:
    """A new folder of this process in that of the run; what processes that have died left there is removed."""
    run.mkdir(exist_ok=True)
    for path in run.glob("worker-*"):
        if not _lives(path):
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"worker-{os.getpid()}-", dir=run))


def _is_used(run: Path) -> bool:
    """Whether a worker of a run lives on this node."""
    return any(_lives(path) for path in run.glob("worker-*"))


def _lives(path: Path) -> bool:
    return psutil.pid_exists(int(path.name.split("-")[1]))
