"""A result that was edited after the run had written it goes into no report, table or verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from arbench.cli.main import main
from arbench.journal import Writer
from arbench.report.folders import read_runs

COMMANDS = {
    "report": ["report", "{run}"],
    "results": ["export", "{run}", "--format", "tensorboard", "--out", "{tmp}/board"],
    "figures": ["export", "{run}", "--figures", "{tmp}/figures"],
    "leaderboard": ["leaderboard", "{run}", "-o", "{tmp}/site"],
    "compare": ["compare", "{run}", "{run}"],
    "baseline": ["baseline", "set", "main", "{run}", "--reason", "first", "--store", "{tmp}/store"],
    "history": ["history", "{run}"],
}


def edit(run: Path) -> Path:
    """Makes a number a little better."""
    path = next(each for each in sorted(run.glob("cells/*/result.json")) if '"frechet"' in each.read_text())
    document = json.loads(path.read_text())
    metric = next(each for each in document["metrics"] if each["name"] == "frechet")
    metric["value"] -= 1.0
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_reads_results_refuses(sealed_run, tmp_path, capsys, name):
    before, after = ([word.format(run=sealed_run, tmp=tmp_path / when) for word in COMMANDS[name]] for when in "ab")
    assert main(before) == (3 if name == "history" else 0), capsys.readouterr().err  # 3: one night has no trend
    capsys.readouterr()
    path = edit(sealed_run)
    assert main(after) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"{path.parent.name}/result.json was changed after it was written" in told
    assert "arbench resume" in told


def test_a_cell_that_was_begun_again_is_not_called_changed(sealed_run):
    """Its file may be the next one before the journal knows it."""
    cell = edit(sealed_run).parent.name
    writer = Writer(sealed_run / "journal.jsonl")
    writer.write("started", cell=cell)
    writer.close()
    assert cell in {entry.result.result_id for entry in read_runs([sealed_run])[0].entries}


def test_an_accepted_baseline_that_was_edited_is_refused(sealed_run, tmp_path, capsys):
    store = tmp_path / "store"
    assert main(["baseline", "set", "main", str(sealed_run), "--reason", "first", "--store", str(store)]) == 0
    assert main(["gate", str(sealed_run), "--baseline", "main", "--store", str(store)]) in (0, 3)
    lines = store / "main" / "results.jsonl"
    lines.write_text(lines.read_text().replace("12.84", "13.84"))
    capsys.readouterr()
    gate = ["gate", str(sealed_run), "--baseline", "main", "--store", str(store)]
    assert main(gate) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "results.jsonl was changed after it was accepted" in told
    assert main(["baseline", "accept", "main", str(sealed_run), "--reason", "anew", "--store", str(store)]) == 0
    assert main(gate) in (0, 3)
