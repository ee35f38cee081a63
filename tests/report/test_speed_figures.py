"""Figures of speed: which points are drawn, and that what is drawn is a picture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from arbench.report import speed_figures
from arbench.report.speed_figures import Line, Panel, figure, panels
from arbench.spec.result import Interval, Metric


def metric(name: str, value: float | None, **at: Any) -> Metric:
    interval = None if value is None else Interval(low=0.9 * value, high=1.1 * value, method="by hand")
    return Metric(name=name, value=value, n=1, at=at, interval=interval, reason="" if value is not None else "none")


METRICS = (
    metric("images-per-second", 90.0, batch=1, operation="draw"),
    metric("images-per-second", 10.0, batch=1, operation="sample"),
    metric("images-per-second", 30.0, batch=4, operation="sample"),
    metric("latency", 0.1, batch=1, operation="sample"),
    metric("latency", 0.05, batch=1, operation="draw"),
    metric("flops", 4e9, batch=1, operation="sample"),
    metric("traffic", 1e9, batch=1, operation="sample"),
    metric("copy-bandwidth", 1e11),
    metric("matrix-rate", 1e12),
    metric("peak-memory", 3e9, batch=1),
    metric("response-p95", 0.3, rate=1.0),
    metric("response-p95", 0.5, rate=4.0),
    metric("response-p95", None, rate=50.0),
)


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(speed_figures, "names", lambda results: {("a", "set"): "model a"})
    return [SimpleNamespace(result=SimpleNamespace(adapter="a", settings_id="set", metrics=METRICS))]


def test_lines_hold_what_was_measured(entries: list[Any]) -> None:
    found = {panel.title: panel for panel in panels(entries)}
    assert list(found) == ["throughput", "95 % of responses", "roofline"]  # one point of memory makes no line
    (line,) = found["throughput"].lines
    assert (line.name, line.x, line.y) == ("model a", [1, 4], [10, 30])
    assert line.spans[1] == pytest.approx((27, 33))
    (line,) = found["95 % of responses"].lines
    assert (line.x, line.y) == ([1, 4], [0.3, 0.5])


def test_the_roofline_is_flops_a_second_over_flops_a_byte(entries: list[Any]) -> None:
    panel = panels(entries)[-1]
    (line,) = panel.lines
    assert (line.x, line.y) == ([pytest.approx(4)], [pytest.approx(0.04)])  # 40 GFLOP/s
    assert panel.roofs == ((1e11, 1e12),)


def test_they_are_drawn(entries: list[Any]) -> None:
    drawn = figure(panels(entries))
    assert drawn is not None
    svg = drawn.svg()
    assert svg.startswith("<svg")
    assert all(word in svg for word in ("model a", "roofline", "TFLOP/s", "arrivals per second"))
    assert figure([]) is None


@pytest.mark.parametrize("rates", [(4.0, 60.0), (15.0, 95.0), (90.0, 600.0), (3.0, 3000.0)])
def test_a_logarithmic_axis_names_two_values_at_least(rates: tuple[float, ...]) -> None:
    line = Line("model", [1.0, 16.0], list(rates), [None, None])
    drawn = figure([Panel("throughput", "images in a call", "images/s", (line,))])
    assert drawn is not None
    drawn.svg()
    (axes,) = drawn.figure.axes
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        named = [tick for tick in axis.get_majorticklocs() if low <= tick <= high]
        assert len(named) >= 2
