"""A comparison in words, for the terminal and the page alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import counted
from ..report.number import fitting_unit, text, with_interval
from ..spec.result import Metric
from .comparison import ChangedSamples, Model
from .difference import Difference

SIGNS = {"worse": "▼", "better": "▲", "changed": "◆", "identical": "=", "comparable": "≈"}
SESSIONS = (
    "timings of two sessions also differ by what the machine does between them, which no interval here covers: a ratio"
    " near 1 wants both measured in turn (--ab)"
)
COVERS = (
    "intervals of quality say how far other samples of these two models would move the difference; training a model"
    " again moves FID about three times as far"
)


@dataclass(frozen=True)
class Line:
    """One number for reading. `head` ends with `unit`, that of the two values."""

    head: str
    unit: str
    old: str
    new: str
    change: str
    pairing: str
    verdict: str
    sign: str
    title: str


def line(each: Difference) -> Line:
    """One difference as texts; "-" for what is not there."""
    values = [metric.value for metric in (each.old, each.new) if metric is not None and metric.value is not None]
    unit, scale = fitting_unit(each.column.unit, values)
    head = each.column.words + (f", {unit}" if unit else "")
    return Line(
        f"{head} {each.column.arrow}".rstrip(),
        unit,
        _value(each.old, scale),
        _value(each.new, scale),
        _change(each, scale),
        _pairing(each),
        each.verdict + (f" within {each.tolerance.words}" if each.verdict == "comparable" and each.tolerance else ""),
        SIGNS.get(each.verdict, ""),
        "; ".join(part for part in (each.why, each.beside, each.change.method if each.change else "") if part),
    )


def _value(metric: Metric | None, scale: float) -> str:
    if metric is None or metric.value is None:
        return "-"
    interval = metric.interval
    low, high = (interval.low / scale, interval.high / scale) if interval else (None, None)
    return with_interval(metric.value / scale, low, high)[0]


def _change(each: Difference, scale: float) -> str:
    """ "+0.31 [0.10, 0.52]", or "x 1.05 [1.03, 1.07]"."""
    change = each.change
    if change is None:
        return "-"
    if each.verdict == "identical":
        return "0"
    if each.ratio:
        scale = 1.0
    low, high = (None if each is None else each / scale for each in (change.low, change.high))
    value = with_interval(change.value / scale, low, high)[0]
    shown = f"x {value}" if each.ratio else value if value.startswith("-") else f"+{value}"
    if low is None or high is None:
        return shown
    places = len(value.partition(".")[2]) if "e" not in value else 3
    return f"{shown} [{text(low, places)}, {text(high, places)}]"


def _pairing(each: Difference) -> str:
    if each.change is None or each.verdict == "identical":
        return ""
    if each.turns:
        return f"{each.turns} in turn"
    if not each.paired:
        return "" if each.column.measure != "quality" or each.change.width is None else "no"
    return f"{each.shorter:.1f} times shorter" if each.shorter is not None else "yes"


def shown(differences: Sequence[Difference]) -> list[Difference]:
    """Those for the first look: the main columns, and others that got worse."""
    return [
        each
        for each in differences
        if each.verdict != "not measured" and (each.column.shown or each.verdict == "worse")
    ]


def missing(differences: Sequence[Difference]) -> list[str]:
    """What one of the sides has not measured, by reason."""
    reasons: dict[str, list[str]] = {}
    for each in differences:
        if each.verdict == "not measured" and each.column.shown:
            reasons.setdefault(each.why, []).append(each.column.words)
    return [f"not measured: {', '.join(names)}: {why}" for why, names in reasons.items()]


def counts(models: Iterable[Model]) -> list[tuple[str, int]]:
    """How many of the main numbers have each verdict, regressions first."""
    order = ("worse", "better", "changed", "comparable", "not told apart", "identical", "not comparable")
    verdicts = [each.verdict for model in models for each in shown(model.differences)]
    return [(verdict, verdicts.count(verdict)) for verdict in order if verdict in verdicts]


def about(samples: ChangedSamples) -> str:
    """What was seen of a task's images."""
    return (
        f"{counted(samples.count, 'sample')} of {samples.task} with the same ids: {samples.same} equal to the pixel,"
        f" median difference {samples.median:.3g} of 255 (root mean square)"
    )
