"""Time left and planned minutes follow what work of the closest kind has taken, in this run and in runs before it."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from arbench.run import pace
from arbench.run.display import Display
from arbench.run.pace import Pace, Seen, keep, kept_file, learned
from arbench.run.plan import PlannedCell, make_plan
from arbench.run.replay import CellState, replay
from arbench.run.results import failed_result
from arbench.spec.cell import Cell
from arbench.spec.suite import Settings
from arbench.spec.suite_file import parse
from arbench.spec.task import TaskSpec
from arbench.spec.unit import Unit, cut, one_per_batch
from arbench.tasks.generate import Generate
from arbench.tasks.speed import Speed


def cell(name: str, task: TaskSpec | None = None, family: str = "raster", **settings: object) -> Cell:
    return Cell(
        adapter=f"{family}/{name}", kind="generator", family=family, task=task or Generate(n=128),
        settings=Settings(**settings), sampling=None, weights_sha256={}, settings_id="set-1", result_id=f"res-{name}",
    )  # fmt: skip


def planned(name: str, minutes: float = 1.0, task: TaskSpec | None = None) -> PlannedCell:
    alone = isinstance(task, Speed)
    units = (Unit(index=0, start=0, stop=1),) if alone else cut(128)
    return PlannedCell(
        cell=cell(name, task), units=units, exclusive=alone, minutes=minutes, gigabytes=1, disk_bytes=1, data={},
        origins={},
    )  # fmt: skip


def test_the_closest_kind_decides():
    found = Pace.of([Seen(cell("a"), 10, 20), Seen(cell("b"), 10, 40), Seen(cell("c", family="hybrid"), 100, 50)])
    assert found.factor(cell("a")) == 2
    assert found.factor(cell("x")) == 3
    assert found.factor(cell("x", family="continuous")) == pytest.approx(110 / 120)
    assert found.factor(cell("a", dtype="bfloat16")) == pytest.approx(110 / 120)
    assert found.factor(cell("a", Speed())) == pytest.approx(110 / 120)
    assert Pace().factor(cell("a")) is None


def test_an_absurd_ratio_is_bounded():
    assert Pace.of([Seen(cell("a"), 1e-9, 1000)]).factor(cell("a")) == pace.BOUNDS[1]


def test_cells_that_are_planned_for_next_to_nothing_do_not_multiply_the_others():
    found = Pace.of([Seen(cell(name), 0.01, 5) for name in "abc"])
    assert found.factor(cell("a", Speed())) == 5


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("cache")
def test_kept_by_machine_and_newer_runs_count_more():
    keep("one", [Seen(cell("a"), 10, 100), Seen(cell("short"), 1, 4)])
    assert learned("one").factor(cell("a")) == 10
    assert learned("one").factor(cell("short")) == 10  # of its family: what is over at once is not kept
    assert learned("two").factor(cell("a")) is None
    keep("two", [Seen(cell("a"), 10, 10)])
    keep("one", [Seen(cell("a"), 10, 10)])
    assert learned("one").factor(cell("a")) == pytest.approx((10 + 50) / (10 + 5))
    assert learned("two").factor(cell("a")) == 1


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"one": 3}', '{"one": {"all": [1]}}', '{"one": {"all": ["x", 2]}}', "null"]
)
def test_a_damaged_file_is_as_none(text):
    kept_file().parent.mkdir()
    kept_file().write_text(text)
    assert learned("one").factor(cell("a")) is None
    keep("one", [Seen(cell("a"), 10, 30)])
    assert learned("one").factor(cell("a")) == 3
    json.loads(kept_file().read_text())


@pytest.mark.usefixtures("cache")
def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "cache").write_text("a file")
    keep("one", [Seen(cell("a"), 10, 30)])
    assert learned("one").factor(cell("a")) is None


@pytest.mark.usefixtures("cache")
def test_a_plan_says_what_this_machine_has_shown():
    text = "suite: s\nadapters: [raster/llamagen-mini]\nsettings: {device: cpu}\ntasks: [generate: {n: 100}]\n"
    before = make_plan(parse(text, "s.yaml"))
    (first,) = before.cells
    keep(before.machine, [Seen(first.cell, 60 * first.minutes, 180 * first.minutes + pace.LEAST_SECONDS)])
    (again,) = make_plan(parse(text, "s.yaml")).cells
    assert again.modelled == first.minutes == first.modelled
    assert again.minutes > 3 * first.minutes
    assert again.cell.result_id == first.cell.result_id


def test_time_left_of_mixed_work(monkeypatch):
    """A CPU model that is ten times too slow for speed cells and right for others: each kind is scaled by its own."""
    state = replay([planned("a"), planned("b"), *(planned(f"s{i}", 1.0, Speed()) for i in range(3))], [])
    now = [0.0]
    monkeypatch.setattr("arbench.run.display.time.monotonic", lambda: now[0])
    display = Display(state, Console(file=io.StringIO()), workers=2)
    assert display.seconds_left() is None
    one, two, speed, *_ = state.values()
    display.started(one)
    one.units, one.seconds = {unit.name: "x" for unit in one.planned.units}, 120.0  # two workers, a minute each
    now[0] = 60.0
    display.advanced(one, 0)
    finish(display, one, 120.0)
    assert display.seconds_left() == pytest.approx(60 + 3 * 60)
    two.units, two.seconds = {unit.name: "x" for unit in two.planned.units}, 120.0
    display.started(two)
    finish(display, two, 120.0)
    display.started(speed)
    now[0] = 66.0
    finish(display, speed, 6.0)
    assert display.seconds_left() == pytest.approx(2 * 6)
    display.started(state["res-s1"])
    now[0] = 70.0
    assert display.seconds_left() == pytest.approx(6 + 2)
    now[0] = 90.0  # four times as long as expected: it will be a while
    assert display.seconds_left() == pytest.approx(6 + 8)


def test_time_left_of_measurements_counts_units_not_samples(monkeypatch):
    """Units of `speed` are batch sizes in rounds, and hold no samples."""
    units = one_per_batch((1, 4, 16, 64), 3)
    state = replay([planned("s", 2.0, Speed()).model_copy(update={"units": units})], [])
    (cell,) = state.values()
    now = [0.0]
    monkeypatch.setattr("arbench.run.display.time.monotonic", lambda: now[0])
    display = Display(state, Console(file=io.StringIO()))
    display.started(cell)
    now[0] = 40.0
    cell.units, cell.seconds = {unit.name: "x" for unit in units[:4]}, 40.0
    display.advanced(cell, 0)
    assert display.seconds_left() == pytest.approx(120 - 40)


def finish(display: Display, state: CellState, seconds: float) -> None:
    result = failed_result(state.planned.cell, "ok", "", seconds=seconds)
    state.outcome, state.result = "ok", result
    display.finished(state, result)
