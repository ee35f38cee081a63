"""Slopes on logarithmic axes against SciPy's own sums by hand, and ratios of steps and time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arbench.report import scaling
from arbench.report.scaling import log_slope, ratios, slopes
from arbench.spec.card import TokenSpec
from arbench.spec.result import Metric


def metric(name: str, value: float, **at: Any) -> Metric:
    return Metric(name=name, value=value, n=1, at=at)


def entry(name: str, *metrics: Metric) -> Any:
    result = SimpleNamespace(adapter=name, settings_id="set", metrics=metrics, load={"dtype": "float32"}, sampling=None)
    return SimpleNamespace(result=result)


@pytest.fixture(autouse=True)
def plain_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "names", lambda results: {(r.adapter, r.settings_id): r.adapter for r in results})
    monkeypatch.setattr(scaling, "device", lambda result: "cpu")


def test_a_power_law_has_its_exponent_and_no_width() -> None:
    x = [1, 2, 4, 8, 16]
    assert log_slope(x, [3 * each**1.5 for each in x]) == pytest.approx((1.5, 1.5, 1.5))


def test_the_interval_covers_the_exponent_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    x = np.array([1.0, 2, 4, 8, 16, 32])
    found = [log_slope(x, x**0.7 * np.exp(random.normal(0, 0.1, 6))) for _ in range(500)]
    hits = np.mean([fit is not None and fit[1] <= 0.7 <= fit[2] for fit in found])
    assert abs(hits - 0.95) < 4 * (0.95 * 0.05 / 500) ** 0.5


def test_fewer_than_four_places_have_no_slope() -> None:
    assert log_slope([1, 2, 4], [1, 2, 4]) is None
    assert log_slope([1, 1, 2, 4], [1, 2, 3, 4]) is None
    assert log_slope([1, 2, 4, 8], [1, 2, 0, 4]) is None


def test_growth_along_batch_and_model_size() -> None:
    sizes = {"a": 10, "b": 20, "c": 40, "d": 80}
    cards: Any = {
        name: SimpleNamespace(
            implementation="adapters.x:Raster", parameters=size, resolution=256, tokens=TokenSpec.grid(16, 8)
        )
        for name, size in sizes.items()
    }
    batches = (1, 4, 16, 64)
    entries = [
        entry(
            name,
            *(metric("latency", size * batch**0.5, batch=batch, operation="sample") for batch in batches),
            *(metric("latency", 1.0, batch=batch, operation="draw") for batch in batches),
            metric("peak-memory", float(size * size), batch=1),
        )
        for name, size in sizes.items()
    ]
    found = {(each.name, each.number, each.along): each for each in slopes(entries, cards)}
    assert {key[2] for key in found} == {"batch", "parameters"}
    assert found["a", "latency", "batch"].slope == pytest.approx(0.5)
    group = "Raster (float32, cpu), batch 1, 256 resolution, 256 tokens"
    assert found[group, "latency", "parameters"].slope == pytest.approx(1)
    assert found[group, "peak-memory", "parameters"].slope == pytest.approx(2)
    assert found[group, "latency", "parameters"].points == 4


def test_steps_beside_time() -> None:
    entries = [
        entry("fast", metric("steps", 10), metric("latency", 0.5, batch=4, operation="sample")),
        entry(
            "slow",
            metric("steps", 320),
            metric("latency", 9.0, batch=1, operation="sample"),
            metric("latency", 1.0, batch=4, operation="sample"),
        ),
        entry("untimed", metric("steps", 5)),
    ]
    assert [(row.name, row.batch, row.fewer, row.faster) for row in ratios(entries)] == [
        ("slow", 4, 1, 1),
        ("fast", 4, 32, 2),
    ]
    assert ratios(entries[1:]) == []
