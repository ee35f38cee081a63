"""`arbench` as a process of its own, forked from one that has imported torch: a fresh one takes seconds for that.

So is its first nursery of workers. What only a fresh interpreter shows (imports, the console script, signals while it
starts) is tested by `python -m arbench` elsewhere. This file is also the program that forks: it reads a call a line,
and answers with the exit status.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from arbench.run import nursery, nursery_process, orphan
from arbench.run.worker import point_output_at

IMPORTED = (
    *("torch", "pandas", "pyarrow.parquet", "scipy.linalg", "scipy.special", "PIL.Image"),
    *("arbench.cli.main", "arbench.run.session", "arbench.tasks.context", "arbench.report.page"),
)
RUNS = {"run", "resume"}
"""The commands that have workers."""


def arbench(
    *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What `arbench WORDS` printed and its exit status, as `subprocess.run` gives them; nothing on its stdin."""
    with tempfile.TemporaryDirectory() as folder:
        call = {
            "words": [str(word) for word in words],
            "cwd": str(cwd or Path.cwd()),
            "environment": dict(os.environ if env is None else env),
            "out": f"{folder}/out",
            "err": f"{folder}/err",
        }
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(call) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        out, err = (Path(folder, name).read_text(encoding="utf-8") for name in ("out", "err"))
    return subprocess.CompletedProcess(["arbench", *call["words"]], status, out, err)


@functools.cache
def _server() -> subprocess.Popen[str]:
    """It ends with the tests, whose end closes its stdin."""
    return subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **dict.fromkeys(nursery.BLAS_THREADS, "1")},  # threads do not survive a fork
    )


def serve() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    for _, definition in importlib.import_module("arbench.spec.task")._built_in():
        importlib.import_module(definition.work.partition(":")[0])
    importlib.import_module("arbench.registry").built_in()
    templates = importlib.import_module("arbench.report.page").environment()
    templates.get_template("page.html")  # compiled once, for all reports
    for line in sys.stdin:
        child = os.fork()
        if not child:
            become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def become(call: dict[str, Any]) -> None:
    """Runs the command in its folder and environment, as `python -m arbench` would, and ends this process."""
    write = os.O_WRONLY | os.O_CREAT
    for number, (path, flags) in enumerate(((os.devnull, os.O_RDONLY), (call["out"], write), (call["err"], write))):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.setsid()
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["cwd"])
    sys.path[:1] = [call["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["arbench", *call["words"]]
    if sys.platform == "linux" and RUNS.intersection(call["words"][:1]):
        fork_nursery()
    from arbench.cli.main import entry

    entry()


def fork_nursery() -> None:
    """Forks what the first `Nursery` of this process would start, before it has threads."""
    supervisor = os.getpid()
    ours, theirs = socket.socketpair()
    said = tempfile.NamedTemporaryFile()  # noqa: SIM115 - it is open as long as the process
    pid = os.fork()
    if not pid:
        orphan.die_with(supervisor)
        os.setsid()
        ours.close()
        point_output_at(Path(said.name))
        nursery_process.main(theirs.detach())
    theirs.close()
    begun = nursery.Nursery.begin

    def begin(self: nursery.Nursery, environment: Mapping[str, str]) -> None:
        nursery.Nursery.begin = begun  # type: ignore[method-assign]
        self._process = Child(pid)  # type: ignore[assignment]
        self._pipe, self._said = Connection(ours.detach()), said

    nursery.Nursery.begin = begin  # type: ignore[method-assign]


class Child:
    """A forked process, with what a nursery uses of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        status = self._wait(0)
        assert status is not None
        return status

    def _wait(self, options: int) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, options)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status


if __name__ == "__main__":
    serve()
