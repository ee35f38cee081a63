"""Numbers for reading: units that fit, and as many digits as the interval supports."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median

_SECONDS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
_BYTES = (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0))
_LADDERS = {"s": _SECONDS, "seconds": _SECONDS, "B": _BYTES, "byte": _BYTES, "bytes": _BYTES}


def fitting_unit(unit: str, values: Iterable[float]) -> tuple[str, float]:
    """The unit to print values of `unit` in, and how much of `unit` one of it is."""
    typical = median([abs(value) for value in values] or [1.0])
    ladder = _LADDERS.get(unit)
    if ladder is None:
        return ("× 10⁻³", 1e-3) if unit == "" and 0 < typical < 0.01 else (unit, 1.0)
    return next(((name, size) for name, size in ladder if typical >= size), ladder[-1])


def decimals(value: float, low: float | None = None, high: float | None = None) -> int:
    """Decimals that show two digits of the interval's half-width; four significant digits without an interval."""
    half = 0.0 if low is None or high is None else (high - low) / 2
    if half > 0:
        return max(0, 1 - math.floor(math.log10(half) + 1e-9))  # 0.0999... from rounding counts as 0.1
    if float(value).is_integer():
        return 0
    return max(0, 3 - math.floor(math.log10(abs(value))))


def text(value: float, places: int) -> str:
    """`value` with `places` decimals; as a power of ten where that would be long."""
    if value and (abs(value) >= 1e7 or (places > 6 and abs(value) < 1e-3)):
        return f"{value:.2e}"
    places = min(places, 6)
    return f"{value:,.{places}f}"


def with_interval(value: float, low: float | None, high: float | None) -> tuple[str, str]:
    """The value and, apart, its interval ("" without one), in the same number of decimals."""
    places = decimals(value, low, high)
    if low is None or high is None:
        return text(value, places), ""
    return text(value, places), f"{text(low, places)} – {text(high, places)}"


def duration(seconds: float) -> str:
    """Seconds for people: 4.2 s, 3 min 12 s, 2 h 05 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: int | None) -> str:
    """12_345_678 as 12.3 M."""
    if number is None:
        return ""
    for size, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {name}"
    return str(number)
