"""The main tables: what may share a column or a row, and what may be called best."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import PROVENANCE, make_result, metric

from arbench.report.export import to_csv, to_markdown
from arbench.report.folders import Entry, Planned
from arbench.report.tables import Table, make_table, marks
from arbench.spec.result import Metric, Result


def table_of(*results: Result, planned: tuple[Planned, ...] = (), kind: Any = "generator") -> Table:
    table = make_table([Entry(result, Path(), "run") for result in results], planned, kind)
    assert table is not None
    return table


def generate(adapter: str, *metrics: Metric, **rest: Any) -> Result:
    return make_result(adapter, "generator", "raster", "generate", metrics=metrics, **rest)


def test_best_needs_an_interval_that_overlaps_no_other() -> None:
    clear = [metric("m", 1.0, 0.1), metric("m", 2.0, 0.1), metric("m", 3.0, 1.5)]
    assert marks(clear, "lower") == ["best", "", ""]
    assert marks(clear, "higher") == ["", "tie", "tie"]


def test_a_wide_interval_further_down_makes_a_tie_too() -> None:
    assert marks([metric("m", 1.0, 0.1), metric("m", 2.0, 0.1), metric("m", 3.0, 2.5)], "lower") == ["tie", "", "tie"]


@pytest.mark.parametrize(
    ("metrics", "direction"),
    [
        ([metric("m", 1.0, 0.1)], "lower"),  # nothing to beat
        ([metric("m", 1.0, 0.1), None], "lower"),
        ([metric("m", 1.0, 0.1), metric("m", 9.0)], "lower"),  # a spread unknown
        ([metric("m", 1.0, 0.1), metric("m", 9.0, 0.1)], None),  # neither way is better
    ],
)
def test_no_mark_without_grounds(metrics: list[Metric | None], direction: Any) -> None:
    assert set(marks(metrics, direction)) == {""}


def test_conventions_never_share_a_column() -> None:
    table = table_of(
        generate("raster/a", metric("fid", 5.0, 0.1, convention="ADM")),
        generate("raster/b", metric("fid", 3.0, 0.1, convention="clean-fid")),
    )
    assert [(column.name, column.note) for column in table.columns] == [("fid", "ADM"), ("fid", "clean-fid")]
    assert all(place.mark == "" for row in table.rows for place in row.places)
    for row in table.rows:
        assert sorted(place.metric is None for place in row.places) == [False, True]


@pytest.mark.parametrize("other", [{"reference": "mnist5k/heldout", "n": 50}, {"reference": "other", "n": 1000}])
def test_other_data_or_another_n_is_another_column(other: dict[str, Any]) -> None:
    table = table_of(
        generate("raster/a", metric("fid", 5.0, 0.1)),
        generate("raster/b", metric("fid", 3.0, 0.1), parameters={"task": "generate", **other}),
    )
    assert len(table.columns) == 2
    changed = next(key for key in other if str(other[key]) not in ("1000", "mnist5k/heldout"))
    assert [column.note for column in table.columns] == [
        f"{changed} {({'reference': 'mnist5k/heldout', 'n': 1000})[changed]}",
        f"{changed} {other[changed]}",
    ]


def test_transport_parameters_do_not_split_a_column() -> None:
    parameters = {"task": "generate", "reference": "mnist5k/heldout", "n": 1000}
    table = table_of(
        generate("raster/a", metric("fid", 5.0, 0.1), parameters={**parameters, "batch": 8}),
        generate("raster/b", metric("fid", 3.0, 0.1), parameters={**parameters, "batch": 64}),
    )
    assert len(table.columns) == 1


def test_a_row_holds_one_settings_id() -> None:
    table = table_of(
        generate("raster/a", metric("fid", 5.0, 0.1), settings_id="set-one", result_id="res-1"),
        generate("raster/a", metric("fid", 4.0, 0.1), settings_id="set-two", result_id="res-2"),
        make_result(
            "raster/a", "generator", "raster", "speed", settings_id="set-two",
            metrics=(metric("latency-batch1", 0.1, 0.01, unit="s", measure="speed"),),
        ),
    )  # fmt: skip
    assert [row.settings_id for row in table.rows] == ["set-two", "set-one"]
    both, alone = table.rows
    assert both.complete
    assert alone.places[1].metric is None
    assert alone.places[1].title == "no speed cell with these settings"


def test_speed_of_another_machine_is_another_column_and_row() -> None:
    def speed(device: str, seconds: float) -> Result:
        return make_result(
            "raster/a", "generator", "raster", "speed", result_id=f"res-{device}",
            metrics=(metric("latency-batch1", seconds, 0.001, unit="s", measure="speed"),),
            provenance=PROVENANCE.model_copy(update={"device": device}),
        )  # fmt: skip

    table = table_of(speed("cuda:0: big", 0.01), speed("cpu: small", 0.2))
    assert len(table.columns) == len(table.rows) == 2
    assert {column.note for column in table.columns} == {"device cuda:0: big", "device cpu: small"}


def test_the_newest_good_result_of_an_identity_stands() -> None:
    old = generate("raster/a", metric("fid", 5.0, 0.1), started="2000-01-01T00:00:00+00:00")
    new = generate("raster/a", metric("fid", 4.0, 0.1), started="2000-01-02T00:00:00+00:00")
    broken = generate("raster/a", outcome="error", reason="x", started="2000-01-03T00:00:00+00:00")
    table = table_of(new, broken, old)
    assert table.rows[0].places[0].text == "4.00"
    assert table.older == 2


def test_missing_values_say_why() -> None:
    table = table_of(
        generate("raster/a", metric("fid", 5.0, 0.1), metric("kid", 1.0, 0.1)),
        generate("raster/b", metric("fid", 6.0, 0.1), metric("kid", None, reason="too few samples")),
        generate("raster/c", outcome="oom", reason="needs 9 GB"),
        make_result("raster/d", "generator", "raster", "memory", metrics=(metric("peak", 9.0, measure="memory"),)),
        planned=(Planned("raster/d", "generate", "res-x"),),
    )
    places = {row.adapter: row.places[1] for row in table.rows}
    assert places["raster/b"].title == "too few samples"
    assert (places["raster/c"].title, places["raster/c"].outcome) == ("oom: needs 9 GB", "oom")
    assert (places["raster/d"].title, places["raster/d"].outcome) == ("generate has not run yet", "to do")
    assert all(places[name].metric is None for name in ("raster/b", "raster/c", "raster/d"))


def test_best_first_and_rows_without_the_number_last() -> None:
    table = table_of(
        generate("raster/a", metric("fid", 12.0, 0.1)),
        generate("raster/b", outcome="error", reason="x"),
        generate("raster/c", metric("fid", 9.0, 0.1)),
    )
    assert [row.adapter for row in table.rows] == ["raster/c", "raster/a", "raster/b"]


def test_csv_has_plain_values_in_base_units() -> None:
    latency = metric("latency-batch1", 0.0125, 0.0005, unit="s", n=20, measure="speed")
    result = make_result("raster/a", "generator", "raster", "speed", metrics=(latency,))
    rows = list(csv.DictReader(io.StringIO(to_csv(table_of(result)))))
    assert rows == [
        {
            "adapter": "raster/a",
            "settings_id": result.settings_id,
            "device": PROVENANCE.device,
            "latency-batch1 [s] ↓": "0.0125",
            "latency-batch1 [s] ↓ low": repr(0.0125 - 0.0005),
            "latency-batch1 [s] ↓ high": repr(0.0125 + 0.0005),
            "latency-batch1 [s] ↓ n": "20",
        }
    ]


def test_markdown_is_a_table_with_the_best_in_bold() -> None:
    table = table_of(
        generate("raster/a|b", metric("fid", 12.0, 0.1)),
        generate("raster/c", metric("fid", 9.0, 0.1)),
        generate("raster/d", outcome="oom", reason="x"),
    )
    assert to_markdown(table).splitlines() == [
        "| adapter | fid ↓ |",
        "| --- | ---: |",
        "| raster/c | **9.00** [8.90 – 9.10] |",
        "| raster/a\\|b | 12.00 [11.90 – 12.10] |",
        "| raster/d | – oom |",
    ]
