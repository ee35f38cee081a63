"""What keeps a result off a leaderboard, and what is only said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from arbench import registry
from arbench.cli.main import main
from arbench.files import digest
from arbench.report.validate import findings


@pytest.fixture
def run(new_run) -> Path:
    """A run with a journal, as a session leaves it."""
    folder: Path = new_run()
    journal(folder)
    return folder


def journal(folder: Path) -> None:
    lines = [
        {
            "kind": "finished",
            "cell": path.parent.name,
            "outcome": "ok",
            "digest": digest(path.read_bytes()),
            "reason": "",
        }
        for path in folder.glob("cells/*/result.json")
    ]
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def change(folder: Path, function, *, known: bool = True) -> None:
    for path in folder.glob("cells/*/result.json"):
        document = json.loads(path.read_text())
        function(document)
        path.write_text(json.dumps(document))
    if known:
        journal(folder)


def errors(folder: Path) -> set[str]:
    return {each.what for each in findings(folder, registry.cards()) if each.kind == "error"}


def test_each_fault_is_named(run):
    change(run, lambda document: document["provenance"]["weights"].update({document["adapter"]: "ab" * 32}))
    assert {"its samples have no digest", "nothing says how offline-pairs computed it"} <= errors(run)
    change(run, lambda document: document["samples"] and document["samples"].update(digest="cd" * 16))
    change(run, lambda document: [metric.update(how="by the tool") for metric in document["metrics"]])
    assert errors(run) == set()
    change(run, lambda document: document.update(wall_seconds=1.0), known=False)
    assert errors(run) == {"result.json was changed after it was written"}
    change(run, lambda document: document["load"].update(init="random"))
    assert "the weights are random" in errors(run)
    change(run, lambda document: document["load"].update(init="checkpoint"))
    change(run, lambda document: document["provenance"].update(weights={}))
    assert errors(run) == {"the digest of its weights is not recorded"}
    change(run, lambda document: document.update(provenance=None))
    assert errors(run) == {"there is no provenance: software, machine and weights are unknown"}
    (run / "journal.jsonl").unlink()
    assert "there is no journal, so that no file can be checked" in errors(run)


def test_speed_alone_is_half_a_row(run, capsys):
    for path in run.glob("cells/*/result.json"):
        if json.loads(path.read_text())["task"] not in ("speed", "memory"):
            shutil.rmtree(path.parent)
    assert "it has speed and no quality under the same settings" in errors(run)
    assert main(["validate", str(run)]) == 1
    assert "error:" in capsys.readouterr().out
    assert main(["validate", str(run), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)
