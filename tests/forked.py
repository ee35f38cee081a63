"""`arbench`, or a program that uses it, as a process of its own, forked from one that has imported torch: a fresh one
takes seconds for that.

So is its first nursery of workers. What only a fresh interpreter shows (imports, the console script, signals while it
starts) is tested by `python -m arbench` elsewhere. This file is also the program that forks: it reads a call a line,
and answers with the exit status.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from arbench.run import nursery, nursery_process, orphan

IMPORTED = (
    *("torch", "pandas", "pyarrow.parquet", "scipy.linalg", "scipy.special", "scipy.stats", "PIL.Image"),
    "torchvision",  # which imports the compiler of torch
    *("arbench.cli.main", "arbench.run.session", "arbench.tasks.context", "arbench.report.page"),
)
RUNS = {"run", "resume"}
"""The commands that have workers."""
SECONDS = 1200
"""What a program may take before it is killed."""
COMMAND = "from arbench.cli.main import entry\nentry()\n"
SCRIPT = "import runpy, sys\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"


def arbench(
    *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What `arbench WORDS` printed and its exit status, as `subprocess.run` gives them; nothing on its stdin."""
    return _run(COMMAND, ["arbench", *words], cwd, env, RUNS.intersection(words[:1]))


def python(
    code: str,
    *words: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    workers: bool = False,
    imported: tuple[str, ...] = IMPORTED,
) -> subprocess.CompletedProcess[str]:
    """The same of `python -c CODE WORDS`. `workers`: whether it may run cells; `imported`: modules that are there."""
    return _run(code, ["-c", *words], cwd, env, workers, imported=imported)


def script(
    *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The same of `python WORDS`, the first of which is a file."""
    return _run(SCRIPT, words, cwd, env, True)


def on_terminal(device: str, *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> int:
    """The exit status of `arbench WORDS`, which reads from and writes to this terminal."""
    return _run(COMMAND, ["arbench", *words], cwd, env, RUNS.intersection(words[:1]), device).returncode


def _run(
    code: str,
    words: Sequence[object],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    workers: object,
    terminal: str | None = None,
    imported: tuple[str, ...] = IMPORTED,
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        call = {
            "code": code,
            "words": [str(word) for word in words],
            "workers": bool(workers),
            "cwd": str(cwd or Path.cwd()),
            "environment": dict(os.environ if env is None else env),
            "in": terminal or os.devnull,
            "out": terminal or f"{folder}/out",
            "err": terminal or f"{folder}/err",
        }
        server = _server(imported)
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(call) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        out, err = ("" if terminal else Path(folder, name).read_text(encoding="utf-8") for name in ("out", "err"))
    return subprocess.CompletedProcess([str(word) for word in words], status, out, err)


@functools.cache
def _server(imported: tuple[str, ...]) -> subprocess.Popen[str]:
    """It ends with the tests, whose end closes its stdin."""
    return subprocess.Popen(
        [sys.executable, __file__, *imported],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **dict.fromkeys(nursery.BLAS_THREADS, "1")},  # threads do not survive a fork
    )


def serve(imported: Sequence[str]) -> None:
    for name in imported:
        importlib.import_module(name)
    if tuple(imported) == IMPORTED:
        for _, definition in importlib.import_module("arbench.spec.task")._built_in():
            importlib.import_module(definition.work.partition(":")[0])
        importlib.import_module("arbench.registry").built_in()
        templates = importlib.import_module("arbench.report.page").environment()
        templates.get_template("page.html")  # compiled once, for all reports
    gc.freeze()  # else each child's collector walks what is imported, and copies the pages that it is on
    for line in sys.stdin:
        child = os.fork()
        if not child:
            become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os._exit(0)  # libraries count what is left at the end


def become(call: dict[str, Any]) -> None:
    """Runs the program in its folder and environment, as a fresh process would, and ends this one."""
    os.setsid()
    signal.alarm(SECONDS)
    write = os.O_WRONLY | os.O_CREAT
    for number, (name, flags) in enumerate((("in", os.O_RDONLY), ("out", write), ("err", write))):
        opened = os.open(call[name], flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["cwd"])
    sys.path[:1] = [call["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = call["words"]
    if sys.platform == "linux" and call["workers"]:
        fork_nursery()
    status = 0
    try:
        exec(compile(call["code"], "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
        if status and not isinstance(left.code, int):
            print(left.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    # as the interpreter ends, but for taking down all the modules that were there, which takes seconds
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def fork_nursery() -> None:
    """Forks what the first `Nursery` of this process would start, before it has threads."""
    supervisor = os.getpid()
    ours, theirs = socket.socketpair()
    said = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the process
    pid = os.fork()
    if not pid:
        orphan.die_with(supervisor)
        os.setsid()
        ours.close()
        for number in (1, 2):
            os.dup2(said.fileno(), number)
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
    serve(sys.argv[1:])
