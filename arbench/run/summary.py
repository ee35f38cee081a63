"""The closing summary of a run: a row of main numbers per adapter, then what failed and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from ..report.curves import sweeps
from ..report.repeats import spread_words, together
from ..report.rows import differing_settings
from ..spec.flags import FLAGS
from ..spec.result import OWN, Metric, Result
from ..spec.task import distinctions, tasks
from ..terminal import Column, print_table

PREFIXES = {
    "B": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")),
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
}


def print_summary(console: Console, results: Sequence[Result]) -> None:
    """A table for each kind of adapter, intervals in square brackets, then what is null in all, then the failures."""
    results = together(results)
    for kind in ("generator", "tokenizer", "images"):
        good = [result for result in results if result.kind == kind and result.outcome == "ok"]
        if good:
            print_table(console, *_table(kind, good), rule=True)
            for line in (*not_measured(good), *remarks(good), *best_settings(good)):
                console.print(Text(line), soft_wrap=True)
    for line in failures(results):
        console.print(Text(line), soft_wrap=True)


def failures(results: Sequence[Result]) -> list[str]:
    """A line for each result that did not go well, and what tells it from others of its adapter and task."""
    told = distinctions([(each.adapter, each.task, each.parameters) for each in results])
    settings = differing_settings(results)
    lines = []
    for result, words in zip(results, told, strict=True):
        inner = ", ".join(part for part in (settings[result.adapter, result.settings_id], words) if part)
        name = f"{result.task} {result.adapter}" + (f" ({inner})" if inner else "")
        lines.append(f"{result.outcome}: {name}: {result.reason}" if result.outcome != "ok" else "")
    return [line for line in dict.fromkeys(lines) if line]


def main_metrics(result: Result) -> list[Metric]:
    """The numbers that the task's definition picks for a summary; the first two of a task that has none."""
    definition = tasks().get(result.task)
    picked = [pick.of(result.metrics) for pick in definition.summary] if definition else []
    chosen = {metric.key: metric for metric in picked if metric is not None}
    return list(chosen.values()) or list(result.metrics[:2])


def not_measured(results: Sequence[Result]) -> list[str]:
    """Main numbers that none of the results has, with the reason: such columns are not in the table."""
    found: dict[str, list[Metric]] = defaultdict(list)
    for result in results:
        for metric in main_metrics(result):
            found[" ".join(heading(metric).split())].append(metric)
    reasons: dict[str, list[str]] = defaultdict(list)
    for name, metrics in found.items():
        if all(metric.value is None for metric in metrics):
            reasons["; ".join(dict.fromkeys(metric.reason for metric in metrics))].append(name)
    return [f"not measured: {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def remarks(results: Sequence[Result]) -> list[str]:
    """Why single numbers of a table are missing, and what flags say; each once, with the numbers it is about."""
    filled = {heading(m) for result in results for m in main_metrics(result) if m.value is not None}
    reasons: dict[str, list[str]] = defaultdict(list)
    flagged: dict[str, list[str]] = defaultdict(list)
    for result in results:
        for metric in main_metrics(result):
            name = " ".join(heading(metric).split())
            if metric.value is None and heading(metric) in filled:
                reasons[metric.reason].append(f"{name} of {result.adapter}")
            for flag in metric.flags if metric.value is not None else ():
                flagged[flag].append(name)
    return [f"- {', '.join(dict.fromkeys(names))}: {reason}" for reason, names in reasons.items()] + [
        f"* {flag.replace('_', ' ')}: {FLAGS.get(flag, '')} ({', '.join(dict.fromkeys(names))})"
        for flag, names in flagged.items()
    ]


def best_settings(results: Sequence[Result]) -> list[str]:
    """Of each curve of a sweep the best value of its main number, and the settings that cannot be told from it."""
    lines = []
    for sweep in sweeps(results):
        for best in sweep.optima:
            if best.column is sweep.columns[0]:
                value = " ".join(_cell(best.metric).replace("*", "").split())
                alike = "no other like it" if best.alone else f"not told from it: {best.low:g} to {best.high:g}"
                end = ", an end of what was tried" if best.at_end else ""
                at = f"{value} at {sweep.name} {best.x:g}{end}"
                lines.append(f"best {best.column.words} of {best.curve.name}: {at}; {alike}")
    return lines


def heading(metric: Metric) -> str:
    """What a number is, in lines: "fid", "(adm)"; "latency", "batch 1,", "sample"."""
    lines = [metric.name]
    if metric.measure == "quality" or metric.convention != OWN:
        lines.append(f"({metric.convention})")
    return "\n".join([*lines, *([metric.key.place.replace(", ", ",\n")] if metric.at else [])])


def _table(kind: str, results: Sequence[Result]) -> tuple[list[Column], list[list[str]]]:
    rows: dict[tuple[str, str], dict[str, Metric]] = defaultdict(dict)
    columns: dict[str, bool] = {}
    """Heading -> whether any row has a value."""
    settings = {
        adapter: _varying(each.sampling.flat() for each in of if each.sampling)
        for adapter, of in _by(results, lambda each: each.adapter).items()
    }
    parameters = {
        task: _varying(each.parameters for each in of)
        for task, of in _by(results, lambda each: (each.adapter, each.task)).items()
    }
    for result in results:
        # a suite may run one task twice, under different parameters, and sweep settings: each has a row of its own
        setting = _setting(result, settings[result.adapter])
        row = result.adapter, setting + _distinction(result, parameters[result.adapter, result.task])
        for metric in main_metrics(result):
            columns[heading(metric)] = columns.get(heading(metric), False) or metric.value is not None
            rows[row][heading(metric)] = metric
    shown = [name for name, filled in columns.items() if filled]
    heads = [Column(kind), *(Column(name, right=True) for name in shown)]
    return heads, [
        [adapter + distinction, *(_cell(metrics.get(name)) for name in shown)]
        for (adapter, distinction), metrics in rows.items()
    ]


def _by(results: Sequence[Result], key: Callable[[Result], Hashable]) -> dict[Any, list[Result]]:
    found: dict[Any, list[Result]] = defaultdict(list)
    for result in results:
        found[key(result)].append(result)
    return found


def _varying(values: Iterable[Mapping[str, Any]]) -> set[str]:
    """The names whose values are not the same in all; a name that is missing is as one without a value."""
    first, *others = [dict(each) for each in values] or [{}]
    return {name for other in others for name in {*first, *other} if first.get(name) != other.get(name)}


def _setting(result: Result, varying: Container[str]) -> str:
    """A line with the sampling values that vary over the settings of its adapter; "" if none does."""
    own = result.sampling.flat() if result.sampling else {}
    words = ", ".join(f"{name} {'off' if value is None else value}" for name, value in own.items() if name in varying)
    return f"\n{words}" if words else ""


def _distinction(result: Result, varying: Container[str]) -> str:
    """Lines with the parameters that vary over the results of its adapter and task."""
    return "".join(f"\n{name} {value}" for name, value in result.parameters.items() if name in varying)


def _cell(metric: Metric | None) -> str:
    """Value and unit, and the interval below."""
    if metric is None:
        return ""
    if metric.value is None:
        return "-"
    scale, unit = _scale(metric.value, metric.unit)
    text = f"{metric.value / scale:.4g} {unit}".rstrip() + ("*" if metric.flags else "")
    if metric.interval is not None:
        text += f"\n[{metric.interval.low / scale:.3g}, {metric.interval.high / scale:.3g}]"
    apart = spread_words(metric, scale)
    return f"{text}\n{apart}" if apart else text


def _scale(value: float, unit: str) -> tuple[float, str]:
    """Seconds and bytes in a prefix that makes the number easy to read."""
    for size, name in PREFIXES.get(unit, ()):
        if abs(value) >= size:
            return size, name
    return 1.0, unit
