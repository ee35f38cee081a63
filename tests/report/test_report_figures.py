"""The report's figures: names of points that lie close together stay readable."""

from __future__ import annotations

import re
import warnings

import numpy as np

from arbench.report.figures import Bar, Point, phase_bars, quality_against_speed, step_curves


def names_of(svg: str) -> dict[str, tuple[float, float]]:
    """Where each name stands."""
    found = re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>(near|nearer|far)</text>', svg)
    return {name: (float(x), float(y)) for x, y, name in found}


def test_names_of_neighbours_do_not_cover_each_other() -> None:
    points = [
        Point("near", "", 1, 0.0100, 20.0, (0.0095, 0.0105), (19.5, 20.5)),
        Point("nearer", "", 1, 0.0102, 20.1, (0.0095, 0.0105), (19.6, 20.6)),
        Point("far", "", 1, 0.1, 30.0, None, None),
    ]
    places = names_of(quality_against_speed(points, "distance", "lower").svg())
    assert places.keys() == {"near", "nearer", "far"}
    (x, y), (other_x, other_y) = places["near"], places["nearer"]
    assert abs(y - other_y) > 9.5 or abs(x - other_x) > 40  # a line of text, or a name


def test_a_name_stands_above_a_point_that_is_alone() -> None:
    points = [Point("near", "", 1, 0.01, 20.0, None, None), Point("far", "", 1, 0.1, 30.0, None, None)]
    places = names_of(quality_against_speed(points, "distance", "lower").svg())
    dots = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', quality_against_speed(points, "distance", "lower").svg())
    for x, y in places.values():
        assert any(abs(float(dot[0]) - x) < 1 and 5 < float(dot[1]) - y < 12 for dot in dots)


def test_long_names_leave_room_for_the_bars() -> None:
    name = "a-model-of-a-long-name (bfloat16 · guidance 2.5 · top-k 900 · top-p 0.96 · steps 64 · spatial_guidance 2.5)"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where labels leave nothing for the axes
        phase_bars([Bar("short", 1, {"ar": 1.0}), Bar(name, 1, {"ar": 2.0})], "sample").svg()
        step_curves({1: {name: np.arange(4.0), "short": np.arange(4.0)}}).svg()
