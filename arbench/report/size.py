"""Keeps the page small: what of a large report it holds, and in which words it names the rest and where to find it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from markupsafe import Markup

from .curves import Sweep
from .export import to_csv, to_markdown
from .latex import to_latex
from .tables import Table

PAGE = 4_900_000
"""Bytes of the page that the tables of all numbers and the raw results may fill, after all that comes before them."""
PLACES, COLUMNS = 8000, 6
"""Cells of a main table, and how many columns of it are kept at least, before rows are left out."""
EXPORT = 400_000
"""Letters of a table as CSV, Markdown or LaTeX."""
POINTS, CURVES = 1500, 3
"""Points in the figures of all sweeps of a table together, and curves that each of them shows at least."""


@dataclass(frozen=True)
class Exported:
    """A table as text for other programs, or in `left_out` why it is not here."""

    csv: str
    markdown: str
    latex: str
    left_out: tuple[str, ...]


def fitted(table: Table) -> tuple[Table, str]:
    """A table of `PLACES` cells at most: columns that are hidden at first go first, then the last columns, then the
    last rows. With words on what is left out, "" for nothing.
    """
    rows, columns = len(table.rows), len(table.columns)
    if rows * columns <= PLACES:
        return table, ""
    wanted = max(COLUMNS, PLACES // rows)
    order = sorted(range(columns), key=lambda index: (not table.columns[index].shown, index))
    kept = sorted(order[:wanted])
    count = min(rows, PLACES // len(kept))
    few = replace(
        table,
        columns=tuple(table.columns[index] for index in kept),
        rows=tuple(replace(row, places=tuple(row.places[index] for index in kept)) for row in table.rows[:count]),
        flags=tuple(table.flags[index] for index in kept),
    )
    parts = [f"{count:,} of {rows:,} rows"] if count < rows else []
    parts += [f"{len(kept)} of {columns} columns"] if len(kept) < columns else []
    return few, f"{' and '.join(parts)} are on this page, to keep it small; table.parquet in the run's folder has all."


def shared_titles(table: Table) -> list[str]:
    """Of each column what all of its numbers would say of themselves, where there are three and they say the same."""
    found = []
    for index in range(len(table.columns)):
        titles = [row.places[index].title for row in table.rows if row.places[index].metric is not None]
        found.append(titles[0] if len(titles) > 2 and len(set(titles)) == 1 else "")
    return found


def exported(table: Table, first: str, label: str) -> Exported:
    """The whole table in each format that is not too long for the page."""
    texts = {"CSV": to_csv(table), "Markdown": to_markdown(table), "LaTeX": to_latex(table, first, label)}
    elsewhere = "arbench export RUN --figures DIR writes it"
    left_out = tuple(
        f"{name}, {len(text) / 1e6:.1f} MB: {elsewhere if name == 'LaTeX' else 'read table.parquet in the run folder'}"
        for name, text in texts.items()
        if len(text) > EXPORT
    )
    csv, markdown, latex = ("" if len(text) > EXPORT else text for text in texts.values())
    return Exported(csv, markdown, latex, left_out)


def fewer_curves(sweep: Sweep, points: int, panels: int) -> tuple[Sweep, str]:
    """A sweep of about `points` points in its panels: the curves with the best values of its main number, in their
    order. With words on the others, "" for none.
    """
    each = panels * max(len(curve.spots) for curve in sweep.curves)
    wanted = max(CURVES, points // each)
    if len(sweep.curves) <= wanted:
        return sweep, ""
    best = [optimum for optimum in sweep.optima if optimum.column is sweep.columns[0]]
    sign = -1 if sweep.columns[0].direction == "higher" else 1
    best.sort(key=lambda optimum: sign * (optimum.metric.value or 0.0))
    chosen = [optimum.curve for optimum in best[:wanted]] or list(sweep.curves[:wanted])
    kept = tuple(curve for curve in sweep.curves if any(curve is one for one in chosen))
    which = f"those with the best {sweep.columns[0].words}" if best else "the first"
    return (
        replace(sweep, curves=kept),
        f"{len(kept)} of {len(sweep.curves)} curves are drawn, {which}; table.parquet in the run's folder has all.",
    )


def within(room: int, items: Iterable[object], written: Callable[[object], Markup], most: int) -> list[Markup]:
    """The first `most` items as written, as far as there is room for them in UTF-8."""
    found: list[Markup] = []
    for item in islice(items, most):
        text = written(item)
        room -= len(text.encode())
        if room < 0:
            break
        found.append(text)
    return found


def room_for(page: str, shares: Sequence[float]) -> list[int]:
    """The bytes that are left beside `page`, in shares."""
    left = max(0, PAGE - len(page.encode()))
    return [int(share * left) for share in shares]
