"""Run folders and their page. The tests' own modules are importable by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from synthetic_run import SMALL, write_run

from arbench.report.page import write_report


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only for tests that share it."""
    return write_run(tmp_path_factory.mktemp("runs") / "quickstart-example")


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Path]:
    """A small run folder of the test's own."""
    return lambda name="run", **rest: write_run(tmp_path / name, **(SMALL | rest))


@pytest.fixture(scope="session")
def page(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([run_folder], tmp_path_factory.mktemp("page") / "report.html")
