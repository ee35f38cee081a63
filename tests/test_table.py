"""results.parquet, a row per metric, and table.parquet, one row per adapter and settings; nulls and types are kept."""

from __future__ import annotations

import json

import pyarrow.parquet as pq

from arbench.spec.result import Interval, Metric, Provenance, ReferenceSet, Result
from arbench.table import COLUMNS, ROW, write_table, write_wide

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
            convention="adm",
            reference=ReferenceSet(name="imagenet", digest="ab"),
            at={"images": "all", "batch": 2},
            how="Inception",
            extras={"exact": 1.25},
            flags=("small_n", "b"),
        ),
        Metric(name="kid", value=None, n=0, reason="too few", measure="quality"),
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
        "result_id": "res-1", "settings_id": "set-1", "outcome": "ok", "metric": "fid", "convention": "adm",
        "reference": "imagenet", "reference_digest": "ab", "at": '{"batch":2,"images":"all"}', "value": 1.5, "unit": "",
        "n": 10, "low": 1.0, "high": 2.0, "level": 0.95, "interval_method": "jackknife", "direction": "lower",
        "measure": "quality", "how": "Inception", "extras": '{"exact":1.25}', "flags": "small_n b", "reason": "",
    }  # fmt: skip
    assert (second["value"], second["low"], second["reason"]) == (None, None, "too few")
    assert (second["convention"], second["reference"], second["at"]) == ("arbench", "", "{}")
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


# ---- one row per adapter and settings ----

CPU = Provenance(arbench="0", python="3", platform="p", device="cpu: x")


def cell(task: str, *metrics: Metric, **rest: object) -> Result:
    fields = SHARED | {"result_id": f"res-{task}", "task": task, "outcome": "ok", "provenance": CPU} | rest
    return Result(metrics=metrics, **fields)


def latency(batch: int, seconds: float) -> Metric:
    at = {"batch": batch, "operation": "sample"}
    span = Interval(low=seconds / 2, high=seconds * 2, method="order statistics")
    return Metric(name="latency", value=seconds, unit="s", n=20, at=at, interval=span, measure="speed")


def test_quality_and_speed_of_one_settings_id_stand_in_one_row(tmp_path):
    fid = Metric(name="fid", value=5.0, n=50, convention="adm", direction="lower")
    null = Metric(name="is", value=None, n=50, convention="adm", reason="no weights")
    results = [
        cell("generate", fid, null),
        cell("speed", latency(1, 0.1), latency(16, 0.8)),
        cell("generate", fid, settings_id="set-2", result_id="res-2"),
        cell("memory", outcome="oom", reason="no memory", settings_id="set-2", result_id="res-3", provenance=None),
    ]
    write_wide(tmp_path / "table.parquet", "run-1", results)
    table = pq.read_table(tmp_path / "table.parquet")
    names = ["adm/fid", "latency[batch=1,operation=sample]", "latency[batch=16,operation=sample]"]
    assert table.column_names == [*ROW, *(f"{name}{end}" for name in names for end in ("", ".low", ".high", ".n"))]
    first, second = table.to_pylist()
    assert {name: first[name] for name in ROW} == {
        "run_id": "run-1", "adapter": "a", "family": "other", "kind": "generator", "settings_id": "set-1",
        "device": "cpu: x", "settings": "set-1",
    }  # fmt: skip
    assert [first[name] for name in names] == [5.0, 0.1, 0.8]
    assert (first["adm/fid.n"], first["adm/fid.low"]) == (50, None)
    assert (first[f"{names[2]}.low"], first[f"{names[2]}.high"], first[f"{names[2]}.n"]) == (0.4, 1.6, 20)
    assert [second[name] for name in ("settings_id", *names)] == ["set-2", 5.0, None, None]
    about = json.loads(table.schema.metadata[b"arbench"])
    assert about["latency[batch=1,operation=sample]"]["unit"] == "s"


def test_a_wide_table_without_results_or_numbers_has_its_first_columns(tmp_path):
    write_wide(tmp_path / "none", "run-1", [])
    write_wide(tmp_path / "bad", "run-1", [BAD])
    assert pq.read_table(tmp_path / "none").column_names == list(ROW)
    assert pq.read_table(tmp_path / "bad").to_pylist()[0]["adapter"] == "a"


def test_the_same_results_are_the_same_wide_bytes(tmp_path):
    for name in ("one", "two"):
        write_wide(tmp_path / name, "run-1", [GOOD, BAD])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
