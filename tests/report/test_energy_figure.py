"""The figure of energy: what is drawn of the numbers, and where it stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbench.report.energy_figure import figure, spendings
from arbench.report.folders import read_runs
from arbench.report.page import write_report
from arbench.report.papers import write_figures


def joules(name: str, value: float | None, batch: int, **rest: Any) -> dict[str, Any]:
    fields = {"name": name, "value": value, "n": 20, "unit": "J", "direction": "lower", "measure": "speed"}
    return fields | {"at": {"batch": batch}, "reason": "" if value is not None else "no counter"} | rest


@pytest.fixture
def measured(new_run: Callable[..., Path]) -> Callable[..., Path]:
    """A run whose first generator has these numbers too."""

    def made(*metrics: dict[str, Any]) -> Path:
        folder = new_run()
        for path in sorted(folder.glob("cells/*/result.json")):
            result = json.loads(path.read_text())
            if result["kind"] == "generator" and result["task"] == "speed":
                result["metrics"] += metrics
                path.write_text(json.dumps(result))
                return folder
        raise AssertionError("no generator with speed")

    return made


INTERVAL = {"low": 11.0, "high": 13.0, "method": "Student's t over 5 blocks of calls"}
NUMBERS = (
    joules("energy-per-image", 3.0, 16),
    joules("net-energy-per-image", 1.25, 16, flags=["idle_differs"]),
    joules("energy-per-image", 12.0, 1, interval=INTERVAL),
    joules("net-energy-per-image", 7.5, 1),
    joules("energy-per-image", None, 64),
    joules("net-energy-per-image", None, 64),
)


def test_each_batch_size_has_its_joules_in_all_and_net(measured: Callable[..., Path]) -> None:
    found = spendings(read_runs([measured(*NUMBERS)])[0].entries)
    assert [(each.batch, each.gross, each.net, each.span, each.flags) for each in found] == [
        (1, 12.0, 7.5, (11.0, 13.0), ()),
        (16, 3.0, 1.25, None, ("idle_differs",)),
    ]


def test_the_report_and_the_figures_for_papers_have_it(measured: Callable[..., Path], tmp_path: Path) -> None:
    folder = measured(*NUMBERS)
    text = write_report([folder], tmp_path / "report.html").read_text()
    assert "<h3>Energy</h3>" in text
    assert "batch 1: 12 J per image (11 to 13), net 7.5 J" in text
    assert "batch 16: 3 J per image, net 1.25 J; flagged idle_differs" in text
    written = {path.name for path in write_figures(read_runs([folder]), tmp_path / "figures")}
    assert {"generator-energy.svg", "generator-energy.pdf"} <= written


def test_nothing_is_drawn_where_no_counter_may_be_read(measured: Callable[..., Path], tmp_path: Path) -> None:
    folder = measured(*NUMBERS[4:])
    assert figure(spendings(read_runs([folder])[0].entries)) is None
    assert "<h3>Energy</h3>" not in write_report([folder], tmp_path / "report.html").read_text()
