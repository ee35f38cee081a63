"""The table of limits from a run's numbers: whole calls only, "-" for what is null."""

import sys
from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def limits(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import limits

    yield limits
    sys.modules.pop("limits")


def test_a_row_for_each_system_and_batch(limits, tmp_path, monkeypatch, capsys):
    at, draw = '{"batch":64,"operation":"sample"}', '{"batch":64,"operation":"draw"}'
    numbers = [
        ("latency", at, 0.2, 0.1, 0.4, "busy random_weights"),
        ("latency", draw, 0.1, None, None, ""),
        ("flops", at, 3e12, None, None, ""),
        ("traffic", at, 2e9, None, None, ""),
        ("kernels", at, None, None, None, ""),
        ("speed-of-light", at, 0.05, None, None, ""),
        ("limit-share", at, 0.25, None, None, ""),
        ("load", "{}", 3.0, None, None, ""),
    ]
    frame = pd.DataFrame(numbers, columns=["metric", "at", "value", "low", "high", "flags"])
    frame.assign(adapter="raster/one").to_parquet(tmp_path / "results.parquet")
    monkeypatch.setattr(sys, "argv", ["limits.py", "--run", str(tmp_path), "--write", str(tmp_path / "table.md")])
    limits.main()
    table = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out == table
    assert table.splitlines()[2:] == [
        "| raster/one | 64 | 200 | 100 to 400 | 3000 | 2 | - | 50 | 25.0 % | busy, random_weights |"
    ]
