"""The last words of a run: a table of the main numbers, what failed and why, where the report is."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..spec.result import Metric, Result

PER_TASK = 3
"""Metrics of each task that are shown; tasks list their main ones first."""


def print_summary(console: Console, results: Sequence[Result]) -> None:
    """One table per task, adapters as rows, the first metrics with their intervals as columns, then the failures."""
    for task in dict.fromkeys(result.task for result in results):
        good = [result for result in results if result.task == task and result.outcome == "ok" and result.metrics]
        if good:
            console.print(_table(task, good))
    for result in results:
        if result.outcome != "ok":
            console.print(Text(f"{result.outcome}: {result.task} {result.adapter}: {result.reason}"), soft_wrap=True)


def _table(task: str, results: Sequence[Result]) -> Table:
    names: dict[tuple[str, str], None] = {}
    for result in results:
        names.update(dict.fromkeys((metric.name, metric.unit) for metric in result.metrics[:PER_TASK]))
    table = Table(title=task, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("adapter", no_wrap=True)
    for name, unit in names:
        table.add_column(Text(f"{name}\n[{unit}]" if unit else name), justify="right")
    for result in results:
        found = {(metric.name, metric.unit): metric for metric in reversed(result.metrics)}
        table.add_row(Text(result.adapter), *(Text(_number(found.get(key))) for key in names))
    return table


def _number(metric: Metric | None) -> str:
    if metric is None:
        return ""
    if metric.value is None:
        return "-"
    text = f"{metric.value:.4g}"
    if metric.interval is not None:
        text += f" [{metric.interval.low:.4g}, {metric.interval.high:.4g}]"
    return text
