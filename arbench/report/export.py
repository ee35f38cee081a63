"""A main table as CSV (all columns, plain values in base units) and as Markdown (the shown ones, as printed)."""

from __future__ import annotations

import csv
import io

from .columns import Column
from .tables import Place, Table


def heading(column: Column, unit: str) -> str:
    """What it is, its unit and direction, on one line."""
    return f"{column.words}{f' [{unit}]' if unit else ''} {column.arrow}".strip()


def to_csv(table: Table) -> str:
    """Value, interval and n of every column, in the units of the results; empty where there is no value."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = ["adapter", "settings_id", "device"]
    for column in table.columns:
        name = heading(column, column.unit)
        header += [name, f"{name} low", f"{name} high", f"{name} n"]
    writer.writerow(header)
    for row in table.rows:
        line: list[object] = [row.adapter, row.settings_id, row.device]
        for place in row.places:
            metric = place.metric
            if metric is None:
                line += ["", "", "", ""]
                continue
            interval = metric.interval
            line += [metric.value, interval.low if interval else "", interval.high if interval else "", metric.n]
        writer.writerow(line)
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """A Markdown table; best values are bold, intervals in brackets."""
    shown = [index for index, column in enumerate(table.columns) if column.shown]
    header = ["adapter", *(heading(table.columns[index], table.columns[index].shown_unit) for index in shown)]
    lines = [_line(header), _line(["---", *("---:" for _ in shown)])]
    lines += [_line([row.adapter, *(_cell(row.places[index]) for index in shown)]) for row in table.rows]
    return "\n".join(lines) + "\n"


def _cell(place: Place) -> str:
    text = f"**{place.text}**" if place.mark == "best" else place.text
    return f"{text} [{place.interval}]" if place.interval else f"{text} {place.outcome}".strip()


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
