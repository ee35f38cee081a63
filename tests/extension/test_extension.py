"""A metric, a convention, a system and a task of a package outside the tree: through a suite to table and report."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas
import pytest

from tests import forked

PACKAGE = Path(__file__).parent / "package"
ENTRY_POINTS = """[arbench.adapters]
paint = outside.system:SYSTEM
[arbench.conventions]
outside = outside.conventions:CONVENTION
[arbench.tasks]
brightness = outside.tasks:TASK
"""
SUITE = """suite: extended
adapters: [other/paint-small]
tasks:
  - generate: {n: 64, conventions: [outside, offline], metrics: [frechet, mean-gap]}
  - brightness: {n: 24}
"""


class Installed:
    """The package as pip leaves it: importable, with its entry points in the metadata."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        info = folder / "site" / "outside-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(ENTRY_POINTS)
        (folder / "suite.yaml").write_text(SUITE)

    def arbench(self, *words: object, code: int = 0) -> str:
        paths = os.pathsep.join([str(PACKAGE), str(self.folder / "site")])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
        done = forked.arbench(*words, cwd=self.folder, env=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    return Installed(tmp_path_factory.mktemp("outside"))


@pytest.fixture(scope="module")
def run(installed) -> Path:
    said = installed.arbench("run", "suite.yaml", "--out", "run", "--track", "off")
    assert "brightness" in said
    return installed.folder / "run"


def test_all_four_are_listed(installed):
    assert "other/paint-large" in installed.arbench("ls", "adapters", "--family", "other")
    assert "a convention of another package" in installed.arbench("ls", "conventions")
    metrics = installed.arbench("ls", "metrics")
    assert "mean-gap" in metrics
    assert "brightness" in metrics


def test_their_numbers_are_in_the_table_and_in_the_report(run):
    (row,) = pandas.read_parquet(run / "table.parquet").to_dict("records")
    assert row["outside/mean-gap"] > 0
    assert row["outside/frechet"] == row["offline/frechet"]
    assert 100 < row["brightness"] < 150
    page = (run / "report.html").read_text().replace("<wbr>", "")
    for words in ("mean-gap", "brightness", "Looks", "outside"):
        assert words in page, words


def test_a_score_of_the_run_reports_the_convention_too(installed, run):
    again = json.loads(installed.arbench("score", "run", "-c", "outside", "--json"))
    values = {metric["name"]: metric["value"] for metric in again["metrics"]}
    (row,) = pandas.read_parquet(run / "table.parquet").to_dict("records")
    assert values == {"mean-gap": row["outside/mean-gap"], "frechet": row["outside/frechet"]}


def test_the_contract_of_the_system_holds(installed):
    assert "FAIL" not in installed.arbench("check", "other/paint-small")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--set", "generate.conventions=[outsid]"), "did you mean outside"),
        (("--set", "brightness.m=3"), "unknown key 'm'"),
        (("--task", "brightnes"), "did you mean brightness"),
    ],
)
def test_wrong_names_are_answered_with_theirs(installed, change, says):
    assert says in installed.arbench("show", "suite.yaml", *change, code=2)
