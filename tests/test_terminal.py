"""Tables: whole in a pipe, fitted to a terminal without a broken word or a lost value."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from arbench.terminal import Column, print_table, table_lines

COLUMNS = (Column("name", whole=True), Column("n", right=True, whole=True), Column("file"), Column("what"))
ROWS = (
    ("raster/llamagen-mini", "7", "a_long_file_name-of_many-parts.pt", "one two three four five six seven eight"),
    ("b", "1000", "shipped", ""),
)


def lines(width: int | None) -> list[str]:
    return [text for line in table_lines(COLUMNS, ROWS, width) for text in line.plain.split("\n")]


def test_a_row_is_a_line_where_nothing_limits_it():
    assert lines(None) == [
        "name                     n  file                               what",
        "raster/llamagen-mini     7  a_long_file_name-of_many-parts.pt  one two three four five six seven eight",
        "b                     1000  shipped",
    ]
    assert lines(200) == lines(None)


def test_what_is_too_wide_breaks_at_separators():
    assert lines(72) == [
        "name                     n  file                  what",
        "raster/llamagen-mini     7  a_long_file_name-of_  one two three four",
        "                            many-parts.pt         five six seven eight",
        "b                     1000  shipped",
    ]


def test_then_columns_go_below_their_row():
    assert lines(60) == [
        "name                     n  file",
        "raster/llamagen-mini     7  a_long_file_name-of_many-",
        "                            parts.pt",
        "    what: one two three four five six seven eight",
        "b                     1000  shipped",
    ]


@pytest.mark.parametrize("width", range(10, 130))
def test_no_value_is_lost_at_any_width(width):
    text = "\n".join(lines(width))
    for word in ("seven", "eight", "shipped", "1000"):
        assert word in text or width < 20
    if width >= 28:
        assert all(len(line) <= width for line in lines(width))
        assert "raster/llamagen-mini" in "\n".join(lines(width))


def test_newlines_are_kept_only_where_a_row_does_not_fit():
    rows = [("a", "24.4\n[23, 25]")]
    columns = (Column("kind"), Column("frechet\n(offline)", right=True))
    assert [line.plain for line in table_lines(columns, rows, 40)] == [
        "kind  frechet (offline)",
        "a         24.4 [23, 25]",
    ]
    narrow = [line.plain for line in table_lines(columns, rows, 16)]
    assert narrow == ["kind    frechet\n      (offline)", "a          24.4\n       [23, 25]"]


def test_control_characters_and_markup_are_shown():
    shown = Console(file=io.StringIO(), highlight=False)
    print_table(shown, [Column("name")], [["[red]\x1b[2Jx"]])
    assert shown.file.getvalue() == "name\n[red]\\x1b[2Jx\n"  # type: ignore[attr-defined]


def test_options_in_prose_are_not_broken_after_their_dashes():
    _, shown = table_lines([Column("what")], [["use it with --layer"]], 14)
    assert shown.plain == "use it with\n--layer"
