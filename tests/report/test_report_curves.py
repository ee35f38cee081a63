"""Curves of sweeps, their optimum with the settings that cannot be told from it, and the column without guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_run import interval, make_result, metric, write_cell

from arbench.report.columns import columns_of
from arbench.report.curve_figure import figure
from arbench.report.curves import Sweep, sweeps
from arbench.report.folders import read_runs
from arbench.report.page import render
from arbench.report.rows import measured, numbers
from arbench.report.tables import Place, make_table
from arbench.spec.identity import identity
from arbench.spec.result import ReferenceSet, Result
from arbench.spec.sampling import Guidance, Sampling
from arbench.table import write_tables

REFERENCE = ReferenceSet(name="mnist5k/heldout", digest="cd" * 16)


def generated(
    adapter: str, sampling: Sampling, value: float | None, half: float = 0.5, seconds: float = 0.0
) -> list[Result]:
    settings_id = identity([adapter, sampling.plain()], "set")
    reason: dict[str, Any] = {"reason": "not enough samples"} if value is None else {}
    found = [
        make_result(
            adapter, "generator", adapter.partition("/")[0], "generate",
            result_id=identity([settings_id, "generate"], "res"), settings_id=settings_id, sampling=sampling,
            metrics=(metric("frechet", value, half, convention="offline", reference=REFERENCE, **reason),),
        )
    ]  # fmt: skip
    if seconds:
        at = {"batch": 4, "operation": "sample"}
        found.append(
            make_result(
                adapter, "generator", adapter.partition("/")[0], "speed",
                result_id=identity([settings_id, "speed"], "res"), settings_id=settings_id, sampling=sampling,
                metrics=(metric("latency", seconds, 0.01, unit="s", measure="speed", at=at),),
            )
        )  # fmt: skip
    return found


def along_scale(adapter: str, values: dict[float, float], **rest: Any) -> list[Result]:
    return [
        result
        for scale, value in values.items()
        for result in generated(adapter, Sampling(guidance=Guidance(scale=scale)), value, **rest)
    ]


def value(place: Place) -> float | None:
    return place.metric.value if place.metric else None


def one(results: list[Result]) -> Sweep:
    (found,) = sweeps(results)
    return found


def test_a_curve_goes_by_the_value_that_differs():
    found = one(along_scale("raster/a", {4: 30, 1: 12, 2: 10}) + along_scale("next_scale/b", {1: 9, 2: 8, 4: 7}))
    assert (found.field, found.name) == ("guidance.scale", "guidance scale")
    assert [curve.adapter for curve in found.curves] == ["raster/a", "next_scale/b"]
    assert [[spot.x for spot in curve.spots] for curve in found.curves] == [[1, 2, 4]] * 2
    assert [column.words for column in found.columns] == ["frechet (offline)"]


def test_the_optimum_has_its_interval_and_the_settings_that_cannot_be_told_from_it():
    found = one(along_scale("raster/a", {1: 12.0, 1.5: 10.4, 2: 10.0, 4: 30.0}))
    (best,) = found.optima
    assert (best.x, best.low, best.high, best.at_end, best.alone) == (2, 1.5, 2, False, False)
    assert best.metric.interval == interval(10.0, 0.5)


def test_settings_are_told_apart_by_the_interval_of_the_difference():
    # half widths of 0.5: the difference of independent estimates has 0.707
    near = one(along_scale("raster/a", {1: 10.0, 2: 10.70, 3: 20.0})).optima[0]
    far = one(along_scale("raster/a", {1: 10.0, 2: 10.72, 3: 20.0})).optima[0]
    assert (near.low, near.high, near.at_end) == (1, 2, True)
    assert far.alone


def test_two_settings_are_no_curve():
    assert sweeps(along_scale("raster/a", {1: 10.0, 2: 11.0})) == []


def test_nulls_have_no_place_on_a_curve():
    found = one(
        along_scale("raster/a", {1: 10.0, 2: 11.0, 3: 12.0})
        + generated("raster/a", Sampling(guidance=Guidance(scale=9)), None)
    )
    assert [x for x, _ in found.curves[0].known(0)] == [1, 2, 3]
    assert found.optima[0].x == 1


def test_a_grid_gives_a_curve_for_each_of_the_other_values():
    results = [
        result
        for steps in (4, 8, 16)
        for temperature in (1.0, 0.9)
        for result in generated("random_order/a", Sampling(steps=steps, temperature=temperature), 100 / steps)
    ]
    found = {sweep.field: sweep for sweep in sweeps(results)}
    assert found.keys() == {"steps"}  # two temperatures are not a curve
    assert sorted(curve.rest for curve in found["steps"].curves) == ["temperature 0.9", "temperature 1.0"]


def test_paired_lists_give_one_curve_along_the_first():
    pairs = ((1.0, 10), (2.0, 20), (3.0, 30))
    results = [
        result
        for scale, top_k in pairs
        for result in generated("raster/a", Sampling(guidance=Guidance(scale=scale), top_k=top_k), 10 * scale)
    ]
    (found,) = sweeps(results)
    assert found.field == "guidance.scale"
    assert [spot.x for spot in found.curves[0].spots] == [1, 2, 3]


def test_the_figure_shows_values_optimum_and_speed():
    results = [
        result
        for steps, value, seconds in ((4, 30.0, 0.4), (8, 20.0, 0.8), (32, 15.0, 3.2))
        for result in generated("random_order/a", Sampling(steps=steps), value, seconds=seconds)
    ]
    found = one(results)
    assert found.batch == 4
    assert [spot.seconds for spot in found.curves[0].spots] == pytest.approx([0.1, 0.2, 0.8])
    svg = figure(found).svg()
    assert "a, steps 32: frechet (offline) 15" in svg
    assert "time per image, batch 4" in svg


def test_the_page_has_curve_and_optimum(tmp_path: Path):
    for result in along_scale("raster/a", {1: 12.0, 2: 10.0, 4: 30.0}):
        write_cell(tmp_path, result)
    (tmp_path / "run.json").write_text('{"schema_version": 2, "run_id": "r"}')
    page = render(read_runs([tmp_path]))
    assert "Along guidance scale" in page
    assert ">Best guidance scale<" in page


def test_a_row_with_guidance_has_the_number_without(tmp_path: Path):
    results = along_scale("raster/a", {1: 12.0, 2: 10.0}) + along_scale("raster/b", {3: 7.0})
    write_tables(tmp_path, "r", results)
    table = pandas.read_parquet(tmp_path / "table.parquet").set_index(["adapter", "offline/frechet"])
    found = table["offline/frechet[guidance=off]"]
    assert found["raster/a", 10.0] == found["raster/a", 12.0] == 12.0
    assert pandas.isna(found["raster/b", 7.0])
    for result in results:
        write_cell(tmp_path, result)
    (tmp_path / "run.json").write_text('{"schema_version": 2, "run_id": "r"}')
    shown = make_table(read_runs([tmp_path])[0].entries, (), "generator")
    assert shown is not None
    (plain,) = [index for index, column in enumerate(shown.columns) if column.unguided]
    places = {(row.adapter, value(row.places[plain - 1])): row.places[plain] for row in shown.rows}
    assert value(places["raster/a", 10.0]) == 12.0
    assert places["raster/b", 7.0].title == "no row that differs from this one in its guidance alone"


def test_without_a_row_without_guidance_there_is_no_such_column(tmp_path: Path):
    write_tables(tmp_path, "r", along_scale("raster/a", {2: 12.0, 3: 10.0}))
    assert not any("guidance" in name for name in pandas.read_parquet(tmp_path / "table.parquet").columns)


@given(
    st.lists(
        st.tuples(st.sampled_from(["frechet", "kid"]), st.sampled_from([None, 1.0, 2.0]), st.integers(0, 3)),
        min_size=1,
        max_size=6,
    )
)
def test_numbers_of_a_row_are_what_is_looked_up_for_each_column(found: list[tuple[str, float | None, int]]) -> None:
    results = [
        make_result(
            "raster/one", "generator", "raster", "generate", result_id=f"res-{index}", settings_id="set-1",
            started=f"2026-11-01T00:00:0{second}Z",
            metrics=(metric(name, value, convention="offline", reference=REFERENCE, reason="" if value else "no"),),
        )
        for index, (name, value, second) in enumerate(found)
    ]  # fmt: skip
    held, (filled, empty) = numbers(results), columns_of(results)
    assert set(held) == {column.key for column in (*filled, *empty)}
    assert all(held[column.key] is measured(results, column) for column in (*filled, *empty))
