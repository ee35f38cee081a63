"""The last words of a run: a row of main numbers per adapter, then what failed and why."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..spec.result import Metric, Result

MAIN: dict[str, tuple[tuple[str, int], ...]] = {
    "generate": (("frechet-*", 0),),
    "reconstruct": (("psnr", 0), ("rfd-*", 0)),
    "edit": (("class-agreement", 0),),
    "likelihood": (("nats-per-token", 0),),
    "speed": (("latency-batch*", 0), ("images-per-second-batch*", -1), ("decode-images-per-second-batch*", -1)),
    "memory": (("peak-memory-batch*", -1),),
}
"""Metrics that the summary shows, by task: a glob, and which of its matches: the first or the last (largest batch)."""
HEADER_WIDTH = 13
PREFIXES = {
    "B": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")),
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
}


def print_summary(console: Console, results: Sequence[Result]) -> None:
    """One table for generators and one for tokenizers, with intervals in square brackets, then the failures."""
    for kind in ("generator", "tokenizer"):
        good = [result for result in results if result.kind == kind and result.outcome == "ok"]
        if good:
            console.print(_table(kind, good))
    failed = [f"{r.outcome}: {r.task} {r.adapter}: {r.reason}" for r in results if r.outcome != "ok"]
    for line in dict.fromkeys(failed):
        console.print(Text(line), soft_wrap=True)


def main_metrics(result: Result) -> list[Metric]:
    """The metrics of a result that a summary has room for."""
    chosen = []
    for glob, place in MAIN.get(result.task, ()):
        found = [metric for metric in result.metrics if fnmatch.fnmatchcase(metric.name, glob)]
        if found:
            chosen.append(found[place])
    return chosen or list(result.metrics[:2])


def _table(kind: str, results: Sequence[Result]) -> Table:
    rows: dict[tuple[str, str], dict[str, Metric]] = defaultdict(dict)
    columns: dict[str, None] = {}
    for result in results:
        # a suite may run one task twice, under different parameters: each goes into a row of its own
        row = result.adapter, _distinction(result, results)
        for metric in main_metrics(result):
            columns[metric.name] = None
            rows[row][metric.name] = metric
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(kind, overflow="fold")
    for name in columns:
        table.add_column(Text(_wrapped(name)), justify="right", no_wrap=True)
    for (adapter, distinction), metrics in rows.items():
        label = adapter.replace("/", "/\n", 1) + distinction
        table.add_row(Text(label), *(Text(_cell(metrics.get(name))) for name in columns))
    return table


def _distinction(result: Result, results: Sequence[Result]) -> str:
    """Lines that tell a result from others of its adapter and task: the parameters in which they differ."""
    alike = [each.parameters for each in results if (each.adapter, each.task) == (result.adapter, result.task)]
    differing = [name for name, value in result.parameters.items() if any(other.get(name) != value for other in alike)]
    return "".join(f"\n{name} {result.parameters[name]}" for name in differing)


def _wrapped(name: str) -> str:
    """A metric's name in lines of at most HEADER_WIDTH, broken after hyphens."""
    lines = [""]
    for part in name.replace("-", "-\n").splitlines():
        if lines[-1] and len(lines[-1]) + len(part) > HEADER_WIDTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _cell(metric: Metric | None) -> str:
    """Value and unit, and the interval below."""
    if metric is None:
        return ""
    if metric.value is None:
        return "-"
    scale, unit = _scale(metric.value, metric.unit)
    text = f"{metric.value / scale:.4g} {unit}".rstrip()
    if metric.interval is not None:
        text += f"\n[{metric.interval.low / scale:.3g}, {metric.interval.high / scale:.3g}]"
    return text


def _scale(value: float, unit: str) -> tuple[float, str]:
    """Seconds and bytes in a prefix that makes the number easy to read."""
    for size, name in PREFIXES.get(unit, ()):
        if abs(value) >= size:
            return size, name
    return 1.0, unit
