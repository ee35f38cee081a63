"""`arbench.compare(...)`: scores and runs side by side, one row per model and one column per comparable number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..errors import UsageError
from ..report.columns import Column, columns_of, labels
from ..report.number import fitting_unit
from ..report.repeats import together
from ..report.rows import measured, newest, rows, settings
from ..spec.identity import identity
from ..spec.result import Metric, Result
from ..table import wide_table
from .tables import Table, number

if TYPE_CHECKING:
    import pandas


class HasResults(Protocol):
    """A `Score`, a `Run` or a `Comparison`."""

    @property
    def results(self) -> tuple[Result, ...]: ...


@dataclass(frozen=True)
class Comparison:
    """Results side by side. In a notebook it shows itself as a table, `frame()` gives it as a DataFrame.

    Numbers share a column only if they may be compared: the same convention, reference, number of images and seed.
    """

    results: tuple[Result, ...]

    def frame(self) -> pandas.DataFrame:
        """One row per model and settings, as in `table.parquet`: beside "adm/fid" its ".low", ".high" and ".n"."""
        frame: pandas.DataFrame = wide_table("", self.results).to_pandas()
        return frame.drop(columns="run_id")

    def __repr__(self) -> str:
        return side_by_side(self.results).text()

    def _repr_html_(self) -> str:
        return side_by_side(self.results).html()


def side_by_side(results: Sequence[Result]) -> Table:
    """One row per model and settings, and the columns that the report shows at first; all if it shows none of them."""
    kept, _ = newest(results, lambda result: result)
    kept = together(kept)
    columns, _ = columns_of(kept)
    members = rows(kept)
    several = len({adapter for adapter, _, _ in members}) < len(members)
    header = ["model"]
    body = [[f"{key[0]} ({settings(found)})" if several else key[0]] for key, found in members.items()]
    named = list(zip(labels(columns), columns, strict=True))
    shown = [(label, column) for label, column in named if column.shown] or named
    for label, column in shown:
        unit, cells = _cells(list(members.values()), column)
        header.append(f"{label}{f' ({unit})' if unit else ''} {column.arrow}".rstrip())
        for row, cell in zip(body, cells, strict=True):
            row.append(cell)
    more = len(named) - len(shown)
    return Table(
        header=tuple(header),
        rows=tuple(map(tuple, body)),
        numbers=frozenset(range(1, len(header))),
        notes=(f"{more} more {'columns' if more > 1 else 'column'}: .frame()",) if more else (),
    )


def _cells(members: list[list[Result]], column: Column) -> tuple[str, list[str]]:
    """The unit of a column, and a text for each row, with the interval in brackets."""
    metrics: list[Metric | None] = [measured(found, column) for found in members]
    values = [metric.value for metric in metrics if metric is not None and metric.value is not None]
    unit, scale = fitting_unit(column.unit, values)
    cells = []
    for metric in metrics:
        value, interval = number(metric, scale) if metric is not None else ("", "")
        cells.append(f"{value} [{interval}]" if interval else value)
    return unit, cells


def compare(*objects: HasResults, **named: HasResults) -> Comparison:
    """Scores and runs side by side: `compare(score, run)`, or `compare(ours=score, theirs=other)` under these names.

    Results of one model under the same settings share a row. Raises `UsageError` where two objects have different
    values for one cell of the table: then they need names.
    """
    if not objects and not named:
        raise UsageError("nothing to compare", "", "arbench.compare(score, other)")
    sides = [each.results for each in objects]
    sides += [_renamed(each.results, name) for name, each in named.items()]
    _refuse_doubles(sides)
    return Comparison(tuple(result for side in sides for result in side))


def _renamed(results: tuple[Result, ...], name: str) -> tuple[Result, ...]:
    """Under the name that it was given; of several models their own names follow.

    With an id of its own: what is compared under two names is two results.
    """
    alone = len({result.adapter for result in results}) == 1

    def changes(result: Result) -> dict[str, str]:
        return {
            "adapter": name if alone else f"{name}: {result.adapter}",
            "result_id": identity({"result": result.result_id, "name": name}, "res"),
        }

    return tuple(result.model_copy(update=changes(result)) for result in results)


def _refuse_doubles(sides: Sequence[tuple[Result, ...]]) -> None:
    everything = [result for side in sides for result in side]
    columns, _ = columns_of(everything)
    for (adapter, _, _), members in rows(everything).items():
        parts = [[result for result in members if any(result is own for own in side)] for side in sides]
        for column in columns:
            found = [measured(part, column) for part in parts]
            if len({metric.value for metric in found if metric is not None and metric.value is not None}) > 1:
                raise UsageError(
                    f"two of these are called {adapter}, under the same settings",
                    f"they differ in {column.words}",
                    "name them: arbench.compare(one=..., other=...)",
                )
