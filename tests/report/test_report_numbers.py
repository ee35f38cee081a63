"""Numbers for reading: units that fit, digits that the interval supports."""

from __future__ import annotations

import pytest

from arbench.report import number


@pytest.mark.parametrize(
    ("unit", "values", "expected"),
    [
        ("s", [0.012, 0.4, 0.03], ("ms", 1e-3)),
        ("s", [3.0, 12.0], ("s", 1.0)),
        ("s", [2e-6], ("µs", 1e-6)),
        ("B", [3 * 2**20], ("MiB", 2.0**20)),
        ("B", [12], ("B", 1.0)),
        ("dB", [23.4], ("dB", 1.0)),
        ("", [0.0012], ("× 10⁻³", 1e-3)),
        ("", [0.8], ("", 1.0)),
        ("", [0.0], ("", 1.0)),
        ("s", [], ("s", 1.0)),
    ],
)
def test_unit_fits_the_values(unit: str, values: list[float], expected: tuple[str, float]) -> None:
    assert number.fitting_unit(unit, values) == expected


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (12.3456, 11.9, 12.8, ("12.35", "11.90 – 12.80")),
        (12.3456, 2.0, 25.0, ("12", "2 – 25")),
        (1234.5, 1000.0, 1500.0, ("1,234", "1,000 – 1,500")),
        (0.5, 0.4999, 0.5001, ("0.50000", "0.49990 – 0.50010")),
        (3.14159, None, None, ("3.142", "")),
        (1024.0, None, None, ("1,024", "")),
        (0.0, None, None, ("0", "")),
        (-0.5, -0.6, -0.4, ("-0.50", "-0.60 – -0.40")),
        (1.5e9, None, None, ("1.50e+09", "")),
        (2.5e-8, None, None, ("2.50e-08", "")),
    ],
)
def test_digits_follow_the_interval(
    value: float, low: float | None, high: float | None, expected: tuple[str, str]
) -> None:
    assert number.with_interval(value, low, high) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(4.23, "4.2 s"), (192, "3 min 12 s"), (7500, "2 h 05 min"), (59.96, "1 min 00 s")]
)
def test_duration(seconds: float, expected: str) -> None:
    assert number.duration(seconds) == expected


def test_counts_are_short() -> None:
    assert [number.count(n) for n in (None, 12, 1200, 3_280_000, 1_400_000_000)] == [
        "",
        "12",
        "1.2 k",
        "3.28 M",
        "1.4 B",
    ]
