"""Tables for reading: of text cells, as plain text and as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ..errors import printable
from ..report.number import text, with_interval
from ..spec.result import Metric

ARROWS = {"higher": " \u2191", "lower": " \u2193", None: ""}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of as many cells as `header` has. `numbers`: places of the columns that stand on the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    title: str = ""
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.header))]

        def aligned(line: Sequence[str]) -> str:
            cells = [
                cell.rjust(width) if place in self.numbers else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            return "  ".join(cells).rstrip()

        parts = [self.title] if self.title else []
        parts += [aligned(self.header), "  ".join("-" * width for width in widths), *map(aligned, self.rows)]
        return printable("\n".join([*parts, *self.notes]))

    def html(self) -> str:
        def line(cells: Sequence[str], tag: str) -> str:
            sides = ["right" if place in self.numbers else "left" for place in range(len(cells))]
            filled = (
                f'<{tag} style="text-align: {side}">{escape(printable(cell))}</{tag}>'
                for cell, side in zip(cells, sides, strict=True)
            )
            return f"<tr>{''.join(filled)}</tr>"

        title = f"<p>{escape(printable(self.title))}</p>" if self.title else ""
        notes = "".join(f"<li>{escape(printable(note))}</li>" for note in self.notes)
        body = "".join(line(row, "td") for row in self.rows)
        table = f"<table><thead>{line(self.header, 'th')}</thead><tbody>{body}</tbody></table>"
        return f"{title}{table}{f'<ul>{notes}</ul>' if notes else ''}"


def number(metric: Metric, scale: float = 1.0) -> tuple[str, str]:
    """The value and its interval in units of `scale`; "-" for a value that is null."""
    if metric.value is None:
        return "-", ""
    interval = metric.interval
    if interval is None:
        return with_interval(metric.value / scale, None, None)
    return with_interval(metric.value / scale, interval.low / scale, interval.high / scale)


def count(n: int) -> str:
    return text(float(n), 0)
