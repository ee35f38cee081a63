"""Run folders and their page. The tests' own modules are importable by name."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from synthetic_run import SMALL, seal, write_run

from arbench.compare.comparison import compare_folders
from arbench.compare.page import render
from arbench.report.page import write_report
from arbench.report.site import write_site


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only for tests that share it."""
    return write_run(tmp_path_factory.mktemp("runs") / "quickstart-example")


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Path]:
    """A small run folder of the test's own."""
    return lambda name="run", **rest: write_run(tmp_path / name, **(SMALL | rest))


@pytest.fixture
def sealed_run(new_run: Callable[..., Path]) -> Path:
    """A small run folder with a journal, as a session leaves it."""
    folder: Path = new_run()
    seal(folder)
    return folder


@pytest.fixture(scope="session")
def page(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([run_folder], tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="session")
def pages(run_folder: Path, page: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report, the comparison of two nights, a leaderboard and one of its models."""
    folder = tmp_path_factory.mktemp("pages")
    write_site([run_folder], folder / "site")
    later = folder / "later"
    shutil.copytree(run_folder, later)
    for path in later.glob("cells/*/result.json"):  # another night of the same settings
        result = json.loads(path.read_text())
        for metric in result["metrics"]:
            if metric["value"] is not None and metric["measure"] == "speed":
                metric["value"] *= 1.2
        path.write_text(json.dumps(result))
    comparison = folder / "comparison.html"
    comparison.write_text(render(compare_folders(run_folder, later)))
    model = next(path for path in (folder / "site").rglob("*var-mini*.html"))
    return {"report": page, "leaderboard": folder / "site" / "index.html", "model": model, "comparison": comparison}
