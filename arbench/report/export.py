"""A main table as CSV (all columns, plain values in base units) and as Markdown (the shown ones, as printed)."""

from __future__ import annotations

import csv
import io

from .columns import Column
from .repeats import spread_of
from .tables import Place, Table


def heading(column: Column, unit: str) -> str:
    """What it is, its unit and direction, on one line."""
    return f"{column.words}{f' [{unit}]' if unit else ''} {column.arrow}".strip()


def to_csv(table: Table) -> str:
    """Value, interval and n of every column, in the units of the results; empty where there is no value. Standard
    deviation and number of seeds or trainings where a column has some.
    """
    repeated = [_repeated(table, index) for index in range(len(table.columns))]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = ["adapter", "settings_id", "device"]
    for column, over in zip(table.columns, repeated, strict=True):
        name = heading(column, column.unit)
        header += [name, f"{name} low", f"{name} high", f"{name} n"]
        header += [f"{name} sd", f"{name} {over}"] if over else []
    writer.writerow(header)
    for row in table.rows:
        line: list[object] = [row.adapter, row.settings_id, row.device]
        for place, over in zip(row.places, repeated, strict=True):
            metric = place.metric
            interval = metric.interval if metric else None
            line += [
                metric.value if metric else "",
                interval.low if interval else "",
                interval.high if interval else "",
            ]
            line.append(metric.n if metric else "")
            if over:
                spread = spread_of(metric) if metric else None
                line += [spread.sd, spread.count] if spread else ["", ""]
        writer.writerow(line)
    return buffer.getvalue()


def _repeated(table: Table, index: int) -> str:
    """What the numbers of a column were repeated over: "seeds", "trainings", "seeds or trainings", or ""."""
    metrics = [row.places[index].metric for row in table.rows]
    found = [spread_of(metric) for metric in metrics if metric is not None]
    return " or ".join(sorted({spread.over for spread in found if spread is not None}))


def to_markdown(table: Table) -> str:
    """A Markdown table; best values are bold, intervals in brackets, spreads in parentheses."""
    shown = [index for index, column in enumerate(table.columns) if column.shown]
    header = ["adapter", *(heading(table.columns[index], table.columns[index].shown_unit) for index in shown)]
    lines = [_line(header), _line(["---", *("---:" for _ in shown)])]
    lines += [_line([row.adapter, *(_cell(row.places[index]) for index in shown)]) for row in table.rows]
    return "\n".join(lines) + "\n"


def _cell(place: Place) -> str:
    text = f"**{place.text}**" if place.mark == "best" else place.text
    parts = (
        text,
        f"[{place.interval}]" if place.interval else place.outcome,
        f"({place.spread})" if place.spread else "",
    )
    return " ".join(part for part in parts if part)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
