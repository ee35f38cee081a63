"""The process of a nursery: imports torch and the tasks once, and forks workers (see `arbench.run.nursery`)."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from multiprocessing import reduction
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from .. import registry
from ..spec.task import tasks
from .wire import receive, send
from .worker import point_output_at, serve

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a batch system sends to all of us: the supervisor decides, workers then finish their units."""


def main(descriptor: int) -> None:
    for which in IGNORED:
        signal.signal(which, signal.SIG_IGN)
    pipe = Connection(descriptor)
    for name in (
        "torch",
        "scipy.linalg.blas",
        "arbench.tasks.context",
        *(definition.work for definition in tasks().values()),
    ):
        importlib.import_module(name.partition(":")[0])
    registry.built_in()  # imports our cards; those of others are for workers, since they may import what starts threads
    gc.freeze()  # what is imported stays: no worker's collector has to walk it, nor to copy the pages that it is on
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that the wakeup descriptor is written to
    living: dict[int, int] = {}
    while True:
        ready = wait([pipe, woken])
        if woken in ready:
            os.read(woken, 4096)
        for number, status in _ended(living):
            send(pipe, {"id": number, "status": status})
        if pipe in ready:
            try:
                order = receive(pipe)
                if order["do"] == "fork":
                    living[_fork(pipe, order)] = order["id"]
                elif order["do"] == "import":
                    for name in order["modules"]:
                        importlib.import_module(name)
                else:
                    _signal(living, order["id"], order["number"])
            except (EOFError, OSError):
                os._exit(0)


def _ended(living: dict[int, int]) -> list[tuple[int, int]]:
    """Number and exit status of each worker that has ended; they leave `living`."""
    ended = []
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            break
        ended.append((living.pop(pid), os.waitstatus_to_exitcode(status)))
    return ended


def _signal(living: Mapping[int, int], number: int, which: int) -> None:
    for pid, each in living.items():
        if each == number:
            os.kill(pid, which)


def _fork(pipe: Connection, order: Mapping[str, Any]) -> int:
    """The process id of a new worker."""
    descriptor = reduction.recv_handle(pipe)
    nursery = os.getpid()
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid
    try:  # nothing may go back into the nursery's loop
        pipe.close()
        signal.set_wakeup_fd(-1)
        for which in (*IGNORED, signal.SIGCHLD):
            signal.signal(which, signal.SIG_DFL)
        os.setsid()
        os.environ.clear()
        os.environ.update(order["environment"])
        point_output_at(Path(order["log"]))
        serve(descriptor, nursery)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)
