"""results.parquet: a row per metric and one for a cell without, nulls and types kept."""

from __future__ import annotations

import pyarrow.parquet as pq

from arbench.run.table import COLUMNS, write_table
from arbench.spec.result import Interval, Metric, Result

SHARED = {"settings_id": "set-1", "adapter": "a", "family": "other", "kind": "generator", "parameters": {}}
GOOD = Result(
    result_id="res-1",
    task="generate",
    outcome="ok",
    metrics=(
        Metric(
            name="fid",
            value=1.5,
            unit="",
            n=10,
            interval=Interval(low=1.0, high=2.0, method="jackknife"),
            direction="lower",
            convention="lite0",
            flags=("small_n", "b"),
        ),
        Metric(name="kid", value=None, n=0, convention="lite0", reason="too few", measure="quality"),
    ),
    **SHARED,
)
BAD = Result(result_id="res-2", task="speed", outcome="oom", reason="no memory", **SHARED)


def test_rows(tmp_path):
    write_table(tmp_path / "results.parquet", "run-1", [GOOD, BAD])
    table = pq.read_table(tmp_path / "results.parquet")
    assert tuple(table.column_names) == COLUMNS
    first, second, third = table.to_pylist()
    assert first == {
        "run_id": "run-1", "adapter": "a", "family": "other", "kind": "generator", "task": "generate",
        "result_id": "res-1", "settings_id": "set-1", "outcome": "ok", "metric": "fid", "value": 1.5, "unit": "",
        "n": 10, "low": 1.0, "high": 2.0, "level": 0.95, "interval_method": "jackknife", "direction": "lower",
        "convention": "lite0", "measure": "quality", "flags": "small_n b", "reason": "",
    }  # fmt: skip
    assert (second["value"], second["low"], second["reason"]) == (None, None, "too few")
    assert (third["metric"], third["outcome"], third["reason"], third["n"]) == (None, "oom", "no memory", None)


def test_types_do_not_depend_on_the_rows(tmp_path):
    write_table(tmp_path / "none", "run-1", [])
    write_table(tmp_path / "nulls", "run-1", [BAD])
    write_table(tmp_path / "all", "run-1", [GOOD, BAD])
    schemas = [pq.read_schema(tmp_path / name) for name in ("none", "nulls", "all")]
    assert schemas[0] == schemas[1] == schemas[2]


def test_the_same_results_are_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_table(tmp_path / name, "run-1", [GOOD, BAD])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
