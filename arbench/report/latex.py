"""Tables for papers, in LaTeX with the package `booktabs`."""

from __future__ import annotations

from itertools import groupby

from .columns import Column
from .tables import Place, Table

PACKAGES = "% \\usepackage{booktabs}"
SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\to$", "–": "--",
    "−": "$-$", "×": r"$\times$", "µ": r"\textmu{}", "⁻": r"$^{-}$", "²": r"$^{2}$", "³": r"$^{3}$", "·": r"$\cdot$",
    "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "∞": r"$\infty$", "σ": r"$\sigma$",
    "Δ": r"$\Delta$", "[": "{[}", "]": "{]}", "*": "{*}",
}  # fmt: skip
"""Brackets and stars because after `\\\\` they are read as its arguments. Other scripts want XeLaTeX or LuaLaTeX."""


def escaped(text: str) -> str:
    """`text` as LaTeX prints it."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def to_latex(table: Table, first: str, label: str) -> str:
    """A table for each group of the shown columns (quality, speed, memory), as wide as the page and set small. Best
    values are bold, intervals small below each value, n in the caption. `first`: heading of the first column.
    """
    parts = [PACKAGES]
    for group in dict.fromkeys(column.group for column in table.columns):
        shown = [
            index
            for index, column in enumerate(table.columns)
            if column.group == group and column.shown and not column.empty
        ]
        if shown:
            parts.append(_table(table, group, shown, first, f"{label}-{group.lower().replace(' ', '-')}"))
    return "\n\n".join(parts) + "\n"


def _table(table: Table, group: str, shown: list[int], first: str, label: str) -> str:
    columns = [table.columns[index] for index in shown]
    lines = [
        "\\begin{table*}",
        "\\centering",
        "\\footnotesize",
        "\\setlength{\\tabcolsep}{3pt}",
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
        *_sources(columns),
        " & ".join([escaped(first), *(_stacked(_heading(column)) for column in columns)]) + " \\\\",
        "\\midrule",
    ]
    for row in table.rows:
        words = f"{{\\scriptsize {escaped(row.settings)}}}" if row.settings else ""
        name = _stacked([escaped(row.adapter), words], "l")
        lines.append(" & ".join([name, *(_value(row.places[index]) for index in shown)]) + " \\\\")
    lines += [
        "\\bottomrule",
        "\\end{tabular}",
        f"\\caption{{{escaped(f'{group}. {_caption(table, shown)}')}}}",
        f"\\label{{{label}}}",
        "\\end{table*}",
    ]
    return "\n".join(lines)


def _sources(columns: list[Column]) -> list[str]:
    """A row with the conventions above the columns' names, and the rules below each; none where there are none."""
    if not any(column.source for column in columns):
        return []
    cells, rules, at = [], [], 2
    for source, members in groupby(columns, key=lambda column: column.source):
        count = len(list(members))
        cells.append(f"\\multicolumn{{{count}}}{{c}}{{{escaped(source)}}}")
        rules.append(f"\\cmidrule(lr){{{at}-{at + count - 1}}}")
        at += count
    return [" & ".join(["", *cells]) + " \\\\", " ".join(rules)]


def _heading(column: Column) -> list[str]:
    name = f"{column.name} {column.arrow}".strip()
    return [escaped(text) for text in (name, column.below, f"[{column.shown_unit}]" if column.shown_unit else "")]


def _stacked(parts: list[str], side: str = "r") -> str:
    """Parts below each other in one cell."""
    kept = [part for part in parts if part]
    return kept[0] if len(kept) == 1 else f"\\shortstack[{side}]{{" + "\\\\ ".join(kept) + "}"


def _value(place: Place) -> str:
    text = escaped(place.text)
    value = f"\\textbf{{{text}}}" if place.mark == "best" else text
    below = [f"{{\\scriptsize {escaped(text)}}}" for text in (place.interval, place.spread) if text]
    return _stacked([value, *below])


def _caption(table: Table, shown: list[int]) -> str:
    """What the numbers are of: n of each quality, and that the intervals are at 95 %."""
    counts: dict[str, list[str]] = {}
    for index in shown:
        column = table.columns[index]
        metrics = [row.places[index].metric for row in table.rows]
        known = {metric.n for metric in metrics if metric is not None}
        if known and column.measure == "quality":
            counts.setdefault(", ".join(f"{n:,}" for n in sorted(known)), []).append(column.words)
    told = "; ".join(f"{', '.join(names)}: n = {count}" for count, names in counts.items())
    return "Below each value its 95 % interval; bold: it overlaps no other in the column." + (
        f" {told}." if told else ""
    )
