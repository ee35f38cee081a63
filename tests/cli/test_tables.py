"""Every verb that prints a table: whole in a pipe, fitted to a terminal of 80 columns, one line a row on 200."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from arbench.cli.main import main
from tests.cli.terminals import in_pipe, on_terminal

LISTS = [["ls", what] for what in ("metrics", "conventions", "recipes", "suites", "datasets")]
CARDS = [["ls", "adapters", "--family", "raster"], ["ls", "tokenizers", "--system", "var"]]
VERBS = [
    *LISTS,
    *CARDS,
    ["weights", "ls"],
    ["show", "quickstart"],
    ["show", "quickstart", "--resolved", "--task", "speed"],
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run's folder in `runs/`, and what it printed on 80 columns."""
    place = tmp_path_factory.mktemp("tables")
    chosen = ["--adapter", "next_scale/var-mini", "--task", "generate", "--task", "memory"]
    small = ["--set", "generate.n=32", "--set", "memory.batches=[1]"]
    arguments = ["run", "quickstart", *chosen, *small, "--out", "runs/r", "--track", "off"]
    return place, on_terminal(arguments, 80, place)


def words(text: str) -> Counter[str]:
    """What a table may not be broken inside of, without the spaces and separators at which it may."""
    return Counter(re.findall(r"[^\s/\-_,=:;\u2500]+", text))


@pytest.mark.parametrize("arguments", VERBS, ids=" ".join)
def test_lists_and_plans(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path))  # planned minutes follow runs, and other tests run some
    assert main(arguments) == 0
    piped, narrow = capsys.readouterr().out, on_terminal(arguments, 80, tmp_path)
    assert not words(piped) - words(narrow), "a word was broken or lost on 80 columns"
    table = [line for line in narrow.splitlines() if not line.startswith(("note:", "files that", "folder:", "suite"))]
    assert max(len(line) for line in table[1:-1]) <= 80
    if arguments[0] != "show":
        assert main([*arguments, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [line.split()[0] for line in piped.splitlines()[1 : len(rows) + 1]] == [row["name"] for row in rows]


def test_every_row_of_a_list_is_a_line_with_all_its_values(tmp_path):
    words = ["ls", "adapters", "--system", "llamagen"]
    rows = json.loads(in_pipe([*words, "--json"], tmp_path))
    for text in (in_pipe(words, tmp_path), on_terminal(words, 200, tmp_path)):
        lines = text.splitlines()
        assert lines[0].split()[-1] == "checkpoint"
        for row, line in zip(rows, lines[1:], strict=False):
            assert line.startswith(row["name"] + " ")
            assert line.endswith(row["checkpoint"].partition(" from ")[0].partition(" (repository")[0])


def test_a_run_and_its_status(run):
    place, printed = run
    assert all(len(line) <= 80 for line in printed.splitlines() if line.startswith(("generator", "next_scale/")))
    assert "next_scale/var-mini" in printed
    for text in (in_pipe(["status", "runs/r"], place), on_terminal(["status", "runs/r"], 80, place)):
        assert sum("next_scale/var-mini" in line and " ok " in line for line in text.splitlines()) == 2
    for text in (in_pipe(["ls", "runs"], place), on_terminal(["ls", "runs"], 200, place)):
        assert any(line.startswith("runs/r ") and line.endswith("runs/r/report.html") for line in text.splitlines())


def test_the_summary_of_a_run_and_a_score_in_a_pipe(run):
    place, _ = run
    again = in_pipe(["resume", "runs/r", "--track", "off"], place)
    lines = again.splitlines()
    (row,) = (line for line in lines if line.startswith("next_scale/var-mini"))
    assert row.endswith(" MB")
    assert "[" in row
    score = in_pipe(["score", "runs/r", "--metric", "frechet", "--out", "s"], place)
    assert any(line.startswith("frechet ") and "\u00b1" in line for line in score.splitlines())
