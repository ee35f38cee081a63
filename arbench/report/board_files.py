"""The numbers of leaderboards for other programs and for papers: rows of plain values, Markdown, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from .boards import Board, BoardCell
from .latex import PACKAGES, escaped

FIELDS = (
    "board", "protocol", "model", "family", "settings", "settings_id", "number", "origin", "value", "low", "high", "n",
    "sd", "repeats", "repeated", "unit", "direction", "source", "reason",
)  # fmt: skip


def records(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """One row per number, in the units of the results; a missing one has its reason. `sd` is that of `repeats` seeds or
    trainings, as `repeated` says."""
    return [
        {
            "board": board.title,
            "protocol": board.protocol,
            "model": row.model,
            "family": row.family,
            "settings": row.settings,
            "settings_id": row.settings_id,
            "number": column.words,
            "origin": column.origin,
            "value": cell.value,
            "low": cell.low,
            "high": cell.high,
            "n": cell.n,
            "sd": cell.repeats.sd if cell.repeats else None,
            "repeats": cell.repeats.count if cell.repeats else None,
            "repeated": cell.repeats.over if cell.repeats else "",
            "unit": column.stored,
            "direction": column.direction,
            "source": cell.source,
            "reason": cell.title if cell.value is None else "",
        }
        for board in boards
        for row in board.rows
        for column, cell in zip(board.columns, row.cells, strict=True)
    ]


def to_csv(boards: Sequence[Board]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(boards))
    return buffer.getvalue()


def to_parquet(boards: Sequence[Board]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = {name: pa.float64() for name in ("value", "low", "high", "sd")} | dict.fromkeys(
        ("n", "repeats"), pa.int64()
    )
    schema = pa.schema([(name, numbers.get(name, pa.string())) for name in FIELDS])
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records(boards), schema), sink)
    return sink.getvalue()


def to_markdown(boards: Sequence[Board]) -> str:
    parts = []
    for board in boards:
        header = ["model", "settings", *(_heading(board, place) for place in range(len(board.columns)))]
        lines = [f"## {board.title}", "", f"{board.protocol}. {board.note}", "", _line(header)]
        lines.append(_line(["---", "---", *("---:" for _ in board.columns)]))
        lines += [_line([row.model, row.settings, *(_cell(cell) for cell in row.cells)]) for row in board.rows]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _heading(board: Board, place: int) -> str:
    column = board.columns[place]
    origin = " (published)" if column.origin == "published" else ""
    return f"{column.words}{f' [{column.unit}]' if column.unit else ''}{origin} {column.arrow}".strip()


def _cell(cell: BoardCell) -> str:
    interval, spread = f" [{cell.interval}]" if cell.interval else "", f" ({cell.spread})" if cell.spread else ""
    return f"{cell.text}{interval}{spread}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def to_latex(boards: Sequence[Board]) -> str:
    """A table for each board, over as many pages as it takes, for the packages `booktabs` and `longtable`; published
    figures are in italics."""
    parts = [f"{PACKAGES}\n% \\usepackage{{longtable}}"]
    for board in boards:
        heads = ["Model", *(escaped(_heading(board, place)) for place in range(len(board.columns)))]
        caption = f"{board.title}: {board.protocol}. Published figures in italics."
        head = ["\\toprule", " & ".join(heads) + " \\\\", "\\midrule"]
        lines = [
            f"\\begin{{longtable}}{{l{'r' * len(board.columns)}}}",
            f"\\caption{{{escaped(caption)}}}\\label{{tab:{board.id}}}\\\\",
            *(*head, "\\endfirsthead"),
            *(*head, "\\endhead"),
            "\\bottomrule",
            "\\endfoot",
        ]
        for row in board.rows:
            cells = [
                f"\\textit{{{escaped(cell.text)}}}"
                if column.origin == "published" and cell.value is not None
                else escaped(_cell(cell))
                for column, cell in zip(board.columns, row.cells, strict=True)
            ]
            lines.append(" & ".join([escaped(row.model), *cells]) + " \\\\")
        lines.append("\\end{longtable}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
