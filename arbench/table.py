"""All results as tables: `results.parquet`, a row per metric, and `table.parquet`, one row per adapter and settings."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import write_atomic
from .report.columns import Column, ColumnKey, columns_of, labels
from .report.repeats import spread_of, together
from .report.rows import RowKey, described, newest, numbers, rows, unguided, with_unguided
from .spec.identity import canonical_json
from .spec.result import Metric, Result

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    "run_id", "adapter", "family", "kind", "task", "result_id", "settings_id", "outcome", "metric", "convention",
    "reference", "reference_digest", "at", "value", "unit", "n", "low", "high", "level", "interval_method",
    "direction", "measure", "how", "extras", "flags", "reason",
)  # fmt: skip
NUMBERS = ("value", "low", "high", "level")
ROW = ("run_id", "adapter", "family", "kind", "settings_id", "device", "settings")
"""First columns of the wide table; those of metrics come after."""


def tidy(run_id: str, results: Iterable[Result]) -> list[dict[str, Any]]:
    """A row per metric, and one for a cell without metrics, in the order of the results and of their metrics."""
    table: list[dict[str, Any]] = []
    for result in results:
        shared = {
            **dict.fromkeys(COLUMNS),
            "run_id": run_id,
            "adapter": result.adapter,
            "family": result.family,
            "kind": result.kind,
            "task": result.task,
            "result_id": result.result_id,
            "settings_id": result.settings_id,
            "outcome": result.outcome,
        }
        table += [shared | _number(metric) for metric in result.metrics] or [shared | {"reason": result.reason}]
    return table


def _number(metric: Metric) -> dict[str, Any]:
    """`at` and `extras` are canonical JSON, `flags` are joined by spaces."""
    interval, reference = metric.interval, metric.reference
    return {
        "metric": metric.name,
        "convention": metric.convention,
        "reference": reference.name if reference else "",
        "reference_digest": reference.digest if reference else "",
        "at": canonical_json(metric.at),
        "value": metric.value,
        "unit": metric.unit,
        "n": metric.n,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "level": interval.level if interval else None,
        "interval_method": interval.method if interval else None,
        "direction": metric.direction,
        "measure": metric.measure,
        "how": metric.how,
        "extras": canonical_json(metric.extras),
        "flags": " ".join(metric.flags),
        "reason": metric.reason,
    }


def tidy_table(run_id: str, results: Iterable[Result]) -> pa.Table:
    """`tidy` with column types that are the same however many rows or nulls there are."""
    import pyarrow as pa

    types = {"n": pa.int64(), **dict.fromkeys(NUMBERS, pa.float64())}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    return pa.Table.from_pylist(tidy(run_id, results), schema=schema)


def write_table(path: Path, run_id: str, results: Iterable[Result]) -> None:
    """Writes `tidy_table` atomically."""
    _write(path, tidy_table(run_id, results))


def wide(run_id: str, results: Iterable[Result]) -> tuple[list[str], list[dict[str, Any]]]:
    """The names of the metrics' columns, and a row per adapter, settings and device, as in the report's main table.

    A column is a comparable number that has a value somewhere, for instance `adm/fid`, `offline/frechet` or
    `latency[batch=1,operation=sample]`; beside it stand `.low`, `.high` and `.n`, and where several seeds or trainings
    stand in one row `.sd` and `.repeats`, the number of them. `adm/fid[guidance=off]` is the number
    of the row that differs in its guidance alone.
    """
    return _wide(run_id, *_grouped(results))


def _wide(
    run_id: str, grouped: dict[RowKey, list[Result]], columns: list[Column]
) -> tuple[list[str], list[dict[str, Any]]]:
    fellows, names = unguided(grouped), labels(columns)
    table, told = [], described(result for members in grouped.values() for result in members)
    held: dict[RowKey | None, dict[ColumnKey, Metric]] = {key: numbers(members) for key, members in grouped.items()}
    for key, members in grouped.items():
        adapter, settings_id, device = key
        first = members[0]
        known = (run_id, adapter, first.family, first.kind, settings_id, device, told[adapter, settings_id])
        row: dict[str, Any] = dict(zip(ROW, known, strict=True))
        for name, column in zip(names, columns, strict=True):
            metric = held.get(fellows.get(key) if column.unguided else key, {}).get(column.key)
            if metric is not None and metric.value is not None:
                interval = metric.interval
                row |= {name: metric.value, f"{name}.n": metric.n}
                row |= {f"{name}.low": interval.low, f"{name}.high": interval.high} if interval else {}
                spread = spread_of(metric)
                row |= {f"{name}.sd": spread.sd, f"{name}.repeats": spread.count} if spread else {}
        table.append(row)
    return names, table


def _grouped(results: Iterable[Result]) -> tuple[dict[RowKey, list[Result]], list[Column]]:
    kept, _ = newest(list(results), lambda result: result)
    kept = together(kept)
    grouped = rows(kept)
    return grouped, with_unguided(columns_of(kept)[0], grouped)


def wide_table(run_id: str, results: Iterable[Result]) -> pa.Table:
    """`wide` with column types. The schema's metadata holds each column's unit and direction, as JSON by its name."""
    import pyarrow as pa

    grouped, columns = _grouped(results)
    names, table = _wide(run_id, grouped, columns)
    about = {
        name: {"unit": column.unit, "direction": column.direction, "how": column.how}
        for name, column in zip(names, columns, strict=True)
    }
    fields: list[tuple[str, pa.DataType]] = [(name, pa.string()) for name in ROW]
    for name in names:
        fields += [(name, pa.float64()), (f"{name}.low", pa.float64()), (f"{name}.high", pa.float64())]
        fields.append((f"{name}.n", pa.int64()))
        if any(f"{name}.sd" in row for row in table):
            fields += [(f"{name}.sd", pa.float64()), (f"{name}.repeats", pa.int64())]
    schema = pa.schema(fields, metadata={"arbench": json.dumps(about, sort_keys=True)})
    return pa.Table.from_pylist(table, schema=schema)


def write_wide(path: Path, run_id: str, results: Iterable[Result]) -> None:
    """Writes `wide_table` atomically."""
    _write(path, wide_table(run_id, results))


def write_tables(folder: Path, run_id: str, results: Iterable[Result]) -> None:
    """Both tables of a folder of results."""
    kept = list(results)
    write_table(folder / "results.parquet", run_id, kept)
    write_wide(folder / "table.parquet", run_id, kept)


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_atomic(path, buffer.getvalue())
