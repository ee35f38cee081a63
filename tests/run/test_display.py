"""What is shown while a run is at work, and at its end."""

from __future__ import annotations

import io
import os
import signal
from typing import Any

import pytest
from rich.console import Console

from arbench.run.cost import START_SECONDS, estimate
from arbench.run.display import Display, duration
from arbench.run.plan import PlannedCell
from arbench.run.replay import FINAL, replay
from arbench.run.results import failed_result
from arbench.run.stop import Stop
from arbench.run.summary import main_metrics, print_summary
from arbench.spec.card import Card
from arbench.spec.cell import Cell
from arbench.spec.result import Interval, Metric, Result
from arbench.spec.sampling import Guidance, Sampling
from arbench.spec.suite import Settings
from arbench.spec.unit import cut
from arbench.tasks.generate import Generate
from arbench.tasks.speed import Speed


def planned(name: str, n: int = 128, minutes: float = 1.0) -> PlannedCell:
    cell = Cell(
        adapter=f"a/{name}", kind="generator", family="other", task=Generate(n=n), settings=Settings(), sampling=None,
        weights_sha256={}, settings_id="set-1", result_id=f"res-{name}",
    )  # fmt: skip
    return PlannedCell(
        cell=cell, units=cut(n), exclusive=False, minutes=minutes, gigabytes=1, disk_bytes=1, data={}, origins={}
    )


def console(**options) -> Console:
    return Console(file=io.StringIO(), width=120, highlight=False, **options)


def text(shown: Console) -> str:
    return shown.file.getvalue()


def test_plain_lines():
    state = replay([planned("one"), planned("[two]")], [])
    first, second = state.values()
    shown = console()
    display = Display(state, shown)
    display.started(first)
    display.advanced(first, 10)
    first.units["000000-000064"], first.seconds = "x", 1.5
    display.advanced(first, 0)
    display.refresh()  # nothing is due yet
    first.result = failed_result(first.planned.cell, "oom", "no [memory]")
    display.finished(first, first.result)
    display.note("careful")
    display.close()
    lines = text(shown).splitlines()
    assert lines[0] == "start  generate a/one: 2 units, about 1 min 0 s"
    assert lines[1].startswith("oom    generate a/one after 0 s: no [memory]; about ")
    assert lines[2] == "note   careful"
    assert len(lines) == 3
    assert second.units == {}


def test_a_cell_that_starts_is_expected_to_fare_as_those_before_it():
    state = replay([planned("one"), planned("two")], [])
    first, second = state.values()
    shown = console()
    display = Display(state, shown)
    display.started(first)
    done = failed_result(first.planned.cell, "oom", "")
    first.result = done.model_copy(update={"outcome": "ok", "wall_seconds": 6.0})
    display.finished(first, first.result)
    display.started(second)
    lines = text(shown).splitlines()
    assert lines[0] == "start  generate a/one: 2 units, about 1 min 0 s"
    assert lines[1].endswith("; about 6 s left")
    assert lines[2] == "start  generate a/two: 2 units, about 6 s"


def test_long_running_cells_are_mentioned_now_and_then(monkeypatch):
    state = replay([planned("one")], [])
    (cell,) = state.values()
    shown = console()
    now = [0.0]
    monkeypatch.setattr("arbench.run.display.time.monotonic", lambda: now[0])
    display = Display(state, shown)
    display.started(cell)
    for second in range(0, 100, 10):
        now[0] = float(second)
        if second == 50:
            cell.units["000000-000064"], cell.seconds = "x", 50.0
        display.advanced(cell, 0)
        display.refresh()
    lines = text(shown).splitlines()[1:]
    assert lines[0] == "       generate a/one: 0 of 2 units, 30 s"
    assert lines[1].startswith("       generate a/one: 1 of 2 units, 1.1 images/s; about 1 min 7 s left")
    assert len(lines) == 3


def test_time_left_of_many_cells_is_estimated_once_a_second(monkeypatch):
    state = replay([planned(str(number)) for number in range(4)], [])
    now, asked = [0.0], []
    monkeypatch.setattr("arbench.run.display.time.monotonic", lambda: now[0])
    monkeypatch.setattr(Display, "seconds_left", lambda self: asked.append(now[0]) or 90.0)
    for few, expected in ((4, [5.0, 5.2, 6.1, 6.2]), (3, [5.0, 6.1])):
        monkeypatch.setattr("arbench.run.display.FEW", few)
        asked.clear()
        shown = console()
        display = Display(state, shown)
        for cell, at in zip(state.values(), (5.0, 5.2, 6.1, 6.2), strict=True):
            now[0] = at
            display.finished(cell, failed_result(cell.planned.cell, "oom", "none"))
        assert asked == expected
        assert text(shown).count("about 1 min 30 s left") == 4


def test_units_of_an_earlier_session_are_not_counted_as_speed(monkeypatch):
    unit = {"kind": "unit", "cell": "res-one", "unit": "000000-000064", "digest": "x", "seconds": 1.0}
    state = replay([planned("one")], [unit])
    (cell,) = state.values()
    now = [0.0]
    monkeypatch.setattr("arbench.run.display.time.monotonic", lambda: now[0])
    display = Display(state, console())
    display.started(cell)
    now[0] = 2.0
    display.advanced(cell, 20)
    assert display._rows["res-one"].pace(2.0) == "10.0 images/s"


def test_the_live_table():
    state = replay([planned(str(number)) for number in range(40)], [])
    cells = list(state.values())
    shown = console(force_terminal=True)
    display = Display(state, shown)
    display.started(cells[30])
    display.advanced(cells[30], 7)
    display.refresh()
    display.close()
    assert "a/30" in text(shown)
    assert "running" in text(shown)
    assert "0 of 40 cells" in text(shown)


def test_durations():
    assert [duration(seconds) for seconds in (0.4, 59.4, 61, 3725)] == ["0 s", "59 s", "1 min 1 s", "1 h 2 min"]


def result(task: str, adapter: str, *metrics: Metric, kind: str = "generator") -> Result:
    return Result(
        result_id="res-1", settings_id="set-1", adapter=adapter, family="other", kind=kind, task=task, parameters={},
        outcome="ok", metrics=metrics,
    )  # fmt: skip


def metric(name: str, value: float | None, unit: str = "", reason: str = "", around: float = 0.0, **key: Any) -> Metric:
    interval = None
    if around and value is not None:
        interval = Interval(low=value - around, high=value + around, method="x")
    return Metric(name=name, value=value, unit=unit, n=9, reason=reason, interval=interval, **key)


def timed(name: str, value: float, unit: str, batch: int, around: float = 0.0) -> Metric:
    return metric(name, value, unit, around=around, measure="speed", at={"batch": batch, "operation": "sample"})


def test_summary_has_a_row_per_adapter_and_fits_a_terminal():
    shown = console(force_terminal=True, color_system=None)
    shown.width = 80
    offline = {"convention": "offline"}
    print_summary(
        shown,
        [
            result("generate", "a/[one]", metric("frechet", 24.44999, around=1.25, **offline)),
            result("generate", "a/two", metric("frechet", None, reason="too few", **offline)),
            result(
                "speed", "a/[one]", metric("load", 9.0, "s", measure="speed"),
                timed("latency", 0.0712, "s", 1, around=0.0021), timed("latency", 0.5, "s", 16),
                timed("images-per-second", 14.0, "images/s", 1), timed("images-per-second", 99.0, "images/s", 16),
            ),
            result(
                "memory", "a/[one]",
                *(metric("peak-memory", n * 1e9, "B", measure="memory", at={"batch": n}) for n in (1, 1.25)),
            ),
            result("reconstruct", "a/tok", metric("psnr", 30.0, "dB", convention="offline-pairs"), kind="tokenizer"),
            failed_result(planned("three").cell, "oom", "no [memory]"),
        ],
    )  # fmt: skip
    out = text(shown)
    lines = out.splitlines()
    assert max(len(line) for line in lines) <= 80
    first = next(index for index, line in enumerate(lines) if "24.45" in line)
    assert lines[first].split() == ["a/[one]", "24.45", "71.2", "ms", "99", "images/s", "1.25", "GB"]
    assert lines[first + 1].split() == ["[23.2,", "25.7]", "[69.1,", "73.3]"]
    assert lines[first + 2].split() == ["a/two", "-"]
    header = " ".join(" ".join(lines[:first]).split())
    for word in ("frechet", "(offline)", "batch 1,", "batch 16,"):
        assert word in header
    assert "30 dB" in out
    assert "oom: generate a/three: no [memory]" in out


def test_summary_shows_what_the_tasks_definition_picks():
    fid = metric("fid", 3.0, convention="adm")
    missing = metric("fid", None, reason="no weights", convention="torch-fidelity")
    numbers = (missing, metric("is", 9.0, convention="adm"), fid, metric("frechet", 5.0, convention="offline"))
    chosen = main_metrics(result("generate", "a/one", *numbers))
    assert chosen == [fid, numbers[3]]  # the first that has a value
    assert main_metrics(result("generate", "a/one", missing)) == [missing]
    assert main_metrics(result("of-a-package-that-is-gone", "a/one", *numbers)) == list(numbers[:2])


def test_summary_of_a_task_run_twice_has_two_rows_that_say_how_they_differ():
    shown = console()
    cells = [
        result("edit", "a/one", metric("class-agreement", value)).model_copy(
            update={"parameters": {"n": 9, "mask": mask}}
        )
        for value, mask in ((1.0, "centre"), (2.0, "border"))
    ]
    print_summary(shown, cells)
    lines = [line.split() for line in text(shown).splitlines()]
    rows = [row for row in lines if row[:1] == ["a/one"]]
    assert rows == [["a/one", "mask", "centre", "1"], ["a/one", "mask", "border", "2"]]
    assert "n 9" not in text(shown)


def test_a_signal_is_counted_and_wakes_and_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requests == 2
        assert os.read(stop.wake, 10) == b"!!"
        stop.drain()
    assert signal.getsignal(signal.SIGTERM) is before


def test_outcomes_that_a_resumed_run_tries_again():
    assert frozenset({"ok", "unsupported"}) == FINAL
    cell = {"cell": "res-one", "time": "t"}
    finished = {"kind": "finished", "outcome": "error", "digest": "x", "reason": "why", **cell}
    (state,) = replay([planned("one")], [{"kind": "started", **cell}, finished]).values()
    assert (state.outcome, state.reason) == ("error", "why")
    records = [{"kind": "started", **cell}, finished, {"kind": "tracked", "cells": ["res-one"]}]
    (state,) = replay([planned("one")], [*records, {"kind": "started", **cell}]).values()
    assert (state.outcome, state.reason, state.started) == (None, "", "t")
    (state,) = replay([planned("one")], [*records, finished]).values()
    assert not state.tracked  # a new result has not been tracked yet


class TestCost:
    CARD = Card(
        name="raster/x", kind="generator", family="raster", implementation="x:X", summary="", resolution=32,
        parameters=1_000_000,
    )  # fmt: skip

    def minutes(self, task, sampling=None, device="cpu", card=CARD, cores=2) -> float:
        return estimate(card, None, task, Settings(device=device), sampling or Sampling(), cores=cores).minutes

    def test_more_work_takes_longer(self):
        base = self.minutes(Generate(n=1000))
        assert self.minutes(Generate(n=2000)) > base
        assert self.minutes(Generate(n=1000), Sampling(guidance=Guidance(scale=2.0))) > base
        assert self.minutes(Generate(n=1000), cores=8) < base
        assert self.minutes(Generate(n=1000), device="cuda") < base
        uncached = self.CARD.model_copy(update={"family": "continuous"})
        assert self.minutes(Generate(n=1000), Sampling(steps=8), card=uncached) > base

    def test_speed_stays_within_its_own_limits(self):
        task = Speed(batches=(1,), min_seconds=6, max_seconds=12)
        tiny, huge = (
            self.minutes(task, card=self.CARD.model_copy(update={"parameters": parameters}))
            for parameters in (10, 10**9)
        )
        assert tiny == pytest.approx((6 + START_SECONDS) / 60, rel=1e-3)
        assert huge > (12 + START_SECONDS) / 60
