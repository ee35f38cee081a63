"""What a report shows of the differences to a baseline: in the cells of the main tables, and in its own section."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .folders import RunFolder
from .rows import RowKey
from .tables import Change, Table

CellKey = tuple[RowKey, tuple[Any, ...]]
"""A row, and the key of a column."""


@dataclass(frozen=True)
class Changes:
    """Differences of runs to one baseline. `models` are what the template `differences` of a page takes.

    `name` and `about` say which baseline it is; `counts` are (verdict, number of main numbers with it); `notes` what
    the intervals cover; `alone` what only one side has.
    """

    name: str
    about: str
    cells: Mapping[CellKey, Change]
    models: Sequence[Mapping[str, Any]]
    counts: Sequence[tuple[str, int]]
    notes: Sequence[str]
    alone: Sequence[str]


Against = Callable[[Sequence[RunFolder]], Changes]
"""Holds runs against a baseline. Whoever compares hands it to the page: a report itself compares nothing."""


def with_changes(table: Table, changes: Changes | None) -> Table:
    """`table` with a difference in each cell that has one."""
    if changes is None:
        return table
    keys = [None if column.unguided else column.key for column in table.columns]
    rows = [
        replace(
            row,
            places=tuple(
                replace(place, change=changes.cells.get(((row.adapter, row.settings_id, row.device), key)))
                if key is not None
                else place
                for place, key in zip(row.places, keys, strict=True)
            ),
        )
        for row in table.rows
    ]
    return replace(table, rows=tuple(rows))
