"""The farm: a package of a task and small adapters, installed beside the tests; arbench runs it in processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from arbench import registry
from arbench.run.nursery import Nursery
from arbench.spec.task import tasks
from tests import forked

SOURCES = Path(__file__).parent / "package"
SUITE = """
suite: farmed
title: On the farm
adapters: [{adapters}]
tasks:
  - count: {{n: {n}, batch: 8}}
"""


ENTRY_POINTS = """[arbench.adapters]
farm = farm.cards:CARDS
[arbench.tasks]
count = farm.tasks:TASK
draw = farm.tasks:DRAW
"""


class Farm:
    """A folder with the installed metadata, a suite file, and the commands of the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        info = folder / "site" / "farm-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: farm\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(ENTRY_POINTS)
        self.paths = [str(SOURCES), str(folder / "site")]
        self.calls = folder / "calls.txt"
        self.threads: str | None = "1"
        """OMP_NUM_THREADS of the commands."""

    def suite(self, adapters: list[str], n: int = 40, more: str = "") -> Path:
        path = self.folder / "farmed.yaml"
        path.write_text(SUITE.format(adapters=", ".join(f"farm/{name}" for name in adapters), n=n) + more)
        return path

    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
            "PYTHONPATH": os.pathsep.join([*self.paths, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(
                os.pathsep
            ),
            "FARM_CALLS": str(self.calls),
            **({} if self.threads is None else {"OMP_NUM_THREADS": self.threads}),
            "COLUMNS": "160",
            "ARBENCH_WEIGHTS": str(self.folder / "weights"),
        }

    def start(self, *arguments: object, limits: str = "Limits()", report: bool = False) -> subprocess.Popen[str]:
        """`arbench ARGUMENTS` as a process; `limits` replaces the supervisor's patience.

        The report, which takes longer to draw than these runs, is an empty file unless it is asked for.
        """
        return subprocess.Popen(
            [sys.executable, "-c", self.program(limits, report), *(str(argument) for argument in arguments)],
            env=self.environment(),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def program(limits: str, report: bool) -> str:
        code = "import sys\nimport arbench.run.session as session\nfrom arbench.run.supervisor import Limits\n"
        code += f"limits = {limits}\nsession.Limits = lambda: limits\n"
        if not report:
            code += "import arbench.report.page as page\n"
            code += "page.write_report = lambda folders, output: (output.touch(), output)[1]\n"
        code += "from arbench.cli.main import main\nsys.exit(main(sys.argv[1:]))\n"
        return code

    def arbench(self, *arguments: object, limits: str = "Limits()", report: bool = False) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of `arbench ARGUMENTS`, forked."""
        workers = bool(forked.RUNS.intersection(arguments[:1]))
        program = self.program(limits, report)
        done = forked.python(program, *arguments, cwd=self.folder, env=self.environment(), workers=workers)
        return done.returncode, done.stdout, done.stderr

    def called(self) -> list[list[str]]:
        """What the workers did, a list of words each: unit ADAPTER NAME PID THREADS, or finish ADAPTER PID."""
        return [line.split() for line in self.calls.read_text().splitlines()] if self.calls.exists() else []

    @staticmethod
    def records(run: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]

    @staticmethod
    def results(run: Path) -> dict[str, dict[str, Any]]:
        """Every result.json by adapter."""
        found = [json.loads(path.read_text()) for path in run.glob("cells/*/result.json")]
        return {result["adapter"].removeprefix("farm/"): result for result in found}

    @staticmethod
    def values(run: Path) -> list[dict[str, Any]]:
        """The rows of results.parquet without the run's own name."""
        rows = pq.read_table(run / "results.parquet").to_pylist()
        return [{key: value for key, value in row.items() if key != "run_id"} for row in rows]


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    return Farm(tmp_path)


@pytest.fixture
def registered(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Farm]:
    """The farm's cards and its task in this process, beside ours."""
    for path in farm.paths:
        monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(farm.folder / "weights"))
    registry._load.cache_clear()
    tasks.cache_clear()
    yield farm
    registry._load.cache_clear()
    tasks.cache_clear()


@pytest.fixture(scope="session")
def stable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Farm, Nursery]]:
    """A farm, and one nursery for all runs of `engine`."""
    nursery = Nursery()
    yield Farm(tmp_path_factory.mktemp("farm")), nursery
    nursery.close()


@pytest.fixture(scope="module")
def engine(stable: tuple[Farm, Nursery]) -> Iterator[Farm]:
    """The farm with `arbench` called in this process; all its runs have their workers from one nursery."""
    farm, nursery = stable
    with pytest.MonkeyPatch.context() as patch:
        for path in farm.paths:
            patch.syspath_prepend(path)
        patch.setenv("ARBENCH_WEIGHTS", str(farm.folder / "weights"))
        patch.setenv("FARM_CALLS", str(farm.calls))
        patch.setattr("arbench.run.local.Nursery", lambda: SimpleNamespace(fork=nursery.fork, close=lambda: None))
        patch.setattr("arbench.run.nursery.ahead", lambda executor: nullcontext())
        patch.setattr("arbench.report.page.write_report", lambda folders, output: (output.touch(), output)[1])
        registry._load.cache_clear()
        tasks.cache_clear()
        yield farm
    registry._load.cache_clear()
    tasks.cache_clear()
