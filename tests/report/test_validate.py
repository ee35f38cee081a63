"""What keeps a result off a leaderboard, and what is only said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from synthetic_run import seal

from arbench import registry
from arbench.cli.main import main
from arbench.report.validate import findings


def change(folder: Path, function, *, known: bool = True) -> None:
    for path in folder.glob("cells/*/result.json"):
        document = json.loads(path.read_text())
        function(document)
        path.write_text(json.dumps(document))
    if known:
        seal(folder)


def errors(folder: Path) -> set[str]:
    return {each.what for each in findings(folder, registry.cards()) if each.kind == "error"}


def test_each_fault_is_named(sealed_run):
    change(sealed_run, lambda document: document["provenance"]["weights"].update({document["adapter"]: "ab" * 32}))
    assert {"its samples have no digest", "nothing says how offline-pairs computed it"} <= errors(sealed_run)
    change(sealed_run, lambda document: document["samples"] and document["samples"].update(digest="cd" * 16))
    change(sealed_run, lambda document: [metric.update(how="by the tool") for metric in document["metrics"]])
    assert errors(sealed_run) == set()
    change(sealed_run, lambda document: document.update(wall_seconds=1.0), known=False)
    assert errors(sealed_run) == {"result.json was changed after it was written"}
    change(sealed_run, lambda document: document["load"].update(init="random"))
    assert "the weights are random" in errors(sealed_run)
    change(sealed_run, lambda document: document["load"].update(init="checkpoint"))
    change(sealed_run, lambda document: document["provenance"].update(weights={}))
    assert errors(sealed_run) == {"the digest of its weights is not recorded"}
    change(sealed_run, lambda document: document.update(provenance=None))
    assert errors(sealed_run) == {"there is no provenance: software, machine and weights are unknown"}
    (sealed_run / "journal.jsonl").unlink()
    assert "without a journal no file can be checked" in errors(sealed_run)


def test_speed_alone_is_half_a_row(sealed_run, capsys):
    for path in sealed_run.glob("cells/*/result.json"):
        if json.loads(path.read_text())["task"] not in ("speed", "memory"):
            shutil.rmtree(path.parent)
    assert "it has speed and no quality under the same settings" in errors(sealed_run)
    assert main(["validate", str(sealed_run)]) == 1
    assert "error:" in capsys.readouterr().out
    assert main(["validate", str(sealed_run), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)


def test_a_result_goes_by_its_adapter_and_what_tells_it_from_others(sealed_run, capsys):
    """A second setting of one model: neither finding names an id, and each says which setting it is about."""
    (first,) = (
        path
        for path in sealed_run.glob("cells/*/result.json")
        if [(known := json.loads(path.read_text()))["adapter"], known["task"]] == ["raster/llamagen-mini", "generate"]
    )
    other = json.loads(first.read_text()) | {"result_id": "res-111111111111", "settings_id": "set-111111111111"}
    other["sampling"]["guidance"]["scale"] = 4.0
    path = sealed_run / "cells" / "res-111111111111" / "result.json"
    path.parent.mkdir()
    path.write_text(json.dumps(other))
    seal(sealed_run)
    path.write_text(json.dumps(other | {"wall_seconds": 1.0}))
    plan = json.loads((sealed_run / "run.json").read_text())
    late = {"adapter": "raster/late-mini", "task": {"task": "generate"}, "result_id": "res-0", "swept": "top_k 5"}
    (sealed_run / "run.json").write_text(json.dumps(plan | {"cells": [*plan["cells"], late]}))
    assert main(["validate", str(sealed_run)]) == 1
    told = capsys.readouterr().out
    assert "generate raster/llamagen-mini (guidance 4): result.json was changed after it was written" in told
    assert f"arbench resume {sealed_run} writes it again" in told
    assert "note: raster/llamagen-mini (guidance 4): it has quality and no speed under the same settings" in told
    assert "note: generate raster/late-mini (top_k 5): planned and not run" in told
    assert "res-" not in told
    assert "set-" not in told
