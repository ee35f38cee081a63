"""What is written for people: the one console, and tables that fit a terminal and are whole lines in a pipe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from .errors import printable

GAP = "  "
WIDE_ENOUGH = 20
"""A column is not made narrower than this to stay beside the others: it goes below its row before that."""
_PIECE = re.compile(r"[/\-_,=:;]*[^\s/\-_,=:;]*[/\-_,=:;]*\s*")
"""Where a cell may be broken: after spaces and what joins the words of a name, not after an option's dashes."""


class PlainConsole(Console):
    """Where all text reaches the terminal: brackets are not markup, and terminal controls become escapes."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """What is printed, a table or a progress bar too, passes here; controls are the console's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


@dataclass(frozen=True)
class Column:
    """`whole` values (names to copy, numbers) are never broken; `keep` columns are never put below their row.

    A newline in a head or a value is a good place to break it, and a space where it need not be broken.
    """

    head: str
    right: bool = False
    whole: bool = False
    keep: bool = False


def print_table(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], rule: bool = False
) -> None:
    """Prints a table; on a terminal a `rule` goes below the heads."""
    width = console.width if console.is_terminal else None
    for line in table_lines(columns, rows, width, rule):
        console.print(line, soft_wrap=True)


def table_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int | None, rule: bool = False
) -> list[Text]:
    """The lines of a table that is `width` wide, or as wide as it must be with None: then one line a row.

    What is too wide is first broken at spaces and separators. Where that is not enough, columns from the last one on
    go below their row, each value with its head.
    """
    cells = [[_text(value) for value in row] for row in rows]
    heads = [Text(printable(column.head), style="bold") for column in columns]
    natural = [
        max((cell_len(_joined(text).plain) for text in (head, *(row[index] for row in cells))), default=0)
        for index, head in enumerate(heads)
    ]
    if width is None or _total(natural) <= width:
        shown = [[_joined(text)] for text in heads]
        lines = [_line(shown, natural, columns)]
        if rule and width is not None:
            lines.append(_rule(natural))
        return lines + [_line([[_joined(text)] for text in row], natural, columns) for row in cells]
    return _fitted(columns, heads, cells, width, rule)


def _fitted(
    columns: Sequence[Column], heads: Sequence[Text], cells: Sequence[Sequence[Text]], width: int, rule: bool
) -> list[Text]:
    least = [
        _least(column, head, [row[index] for row in cells])
        for index, (column, head) in enumerate(zip(columns, heads, strict=True))
    ]
    beside = list(range(len(columns)))
    for index in reversed(range(1, len(columns))):
        if _total([least[place] for place in beside]) <= width:
            break
        if not columns[index].keep:
            beside.remove(index)
    below = [index for index in range(len(columns)) if index not in beside]
    widths = [max(_longest(text) for text in (heads[index], *(row[index] for row in cells))) for index in beside]
    while _total(widths) > width:
        # the widest gives way first; where even the least is too much, a long value is broken inside
        spare = [place for place, index in enumerate(beside) if widths[place] > min(least[index], width)]
        if not spare:
            break
        widths[max(spare, key=lambda place: widths[place])] -= 1
    table = [[_broken(row[index], size) for index, size in zip(beside, widths, strict=True)] for row in (heads, *cells)]
    # breaking at separators leaves room
    widths = [max(cell_len(part.plain) for row in table for part in row[place]) for place in range(len(beside))]
    chosen = [columns[index] for index in beside]
    lines = [_line(table[0], widths, chosen)]
    if rule:
        lines.append(_rule(widths))
    for row, shown in zip(cells, table[1:], strict=True):
        lines.append(_line(shown, widths, chosen))
        for index in below:
            if row[index].plain:
                lines += _below(_joined(heads[index]).plain, _joined(row[index]).plain, width)
    return lines


def _below(head: str, value: str, width: int) -> list[Text]:
    parts = _broken(Text(f"{head}: {value}", style="dim"), max(width - 6, 1))
    return [Text(" " * (6 if place else 4)).append_text(part) for place, part in enumerate(parts)]


def _text(value: str | Text) -> Text:
    return value if isinstance(value, Text) else Text(printable(value))


def _joined(text: Text) -> Text:
    return Text(text.plain.replace("\n", " "), style=text.style) if "\n" in text.plain else text


def _longest(text: Text) -> int:
    return max((cell_len(line) for line in text.plain.split("\n")), default=0)


def _least(column: Column, head: Text, values: Sequence[Text]) -> int:
    """The narrowest that a column can be without a break inside a word."""
    pieces = max(cell_len(piece.rstrip()) for text in (head, *values) for piece in _pieces(text.plain))
    natural = max((_longest(text) for text in values), default=0)
    if column.whole:
        return max(pieces, natural)
    return pieces if column.keep else max(pieces, min(natural, WIDE_ENOUGH))


def _pieces(text: str) -> list[str]:
    return [piece for line in text.split("\n") for piece in _PIECE.findall(line) or [""]]


def _broken(text: Text, width: int) -> list[Text]:
    """The lines of a cell, each at most `width` wide."""
    lines: list[str] = []
    for part in text.plain.split("\n"):
        line = ""
        for piece in _PIECE.findall(part):
            if line and cell_len((line + piece).rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece
            while cell_len(line.rstrip()) > width:
                lines.append(line[:width])
                line = line[width:]
        lines.append(line.rstrip())
    return [Text(line, style=text.style) for line in lines]


def _line(cells: Sequence[Sequence[Text]], widths: Sequence[int], columns: Sequence[Column]) -> Text:
    """A row, which may be of several lines."""
    lines = []
    for number in range(max(len(cell) for cell in cells)):
        line = Text()
        for place, (cell, size, column) in enumerate(zip(cells, widths, columns, strict=True)):
            text = cell[number] if number < len(cell) else Text()
            space = " " * max(size - cell_len(text.plain), 0)
            line.append(GAP if place else "")
            if column.right:
                line.append(space)
            line.append_text(text)
            if not column.right:
                line.append(space)
        line.rstrip()
        lines.append(line)
    return Text("\n").join(lines)


def _rule(widths: Sequence[int]) -> Text:
    return Text(GAP.join("\u2500" * size for size in widths), style="dim")


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)
