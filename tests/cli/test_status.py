"""`arbench status` of runs that were planned and not begun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from arbench.cli.main import main
from arbench.run.plan import make_plan
from arbench.run.store import RunFile, Store
from arbench.spec.suite_file import parse

SUITE = """
suite: s
adapters: [next_scale/var-mini]
settings: {device: cpu}
tasks:
  - speed: {batches: [1]}
sampling:
  "*": {guidance: {scale: [1, 2]}}
"""


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    known = parse(SUITE, "s.yaml")
    words = {"run_id": "s", "started": "", "argv": (), "suite_path": "s.yaml", "origins": ()}
    run = RunFile(suite=known.suite, plan=make_plan(known), **words)
    Store.create(tmp_path / "run", run).close()
    return tmp_path / "run"


def test_the_settings_of_a_sweep_are_told_apart(planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scales = ["guidance.scale 1", "guidance.scale 2"]
    assert main(["status", str(planned)]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("speed")]
    assert [scale in row for row, scale in zip(rows, scales, strict=True)] == [True, True]
    assert main(["status", str(planned), "--json"]) == 0
    assert [cell["setting"] for cell in json.loads(capsys.readouterr().out)["cells"]] == scales
