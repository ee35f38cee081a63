"""All results as one tidy table, `results.parquet`: a row per metric, and one for a cell without metrics."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..spec.result import Result
from .store import write_atomic

TEXT = (
    "run_id", "adapter", "family", "kind", "task", "result_id", "settings_id", "outcome", "metric", "unit",
    "interval_method", "direction", "convention", "measure", "flags", "reason",
)  # fmt: skip
COLUMNS = (
    "run_id", "adapter", "family", "kind", "task", "result_id", "settings_id", "outcome", "metric", "value", "unit",
    "n", "low", "high", "level", "interval_method", "direction", "convention", "measure", "flags", "reason",
)  # fmt: skip


def rows(run_id: str, results: Iterable[Result]) -> list[dict[str, Any]]:
    """The rows, in the order of the results and of their metrics. `flags` are joined by spaces."""
    table: list[dict[str, Any]] = []
    for result in results:
        shared = {
            "run_id": run_id,
            "adapter": result.adapter,
            "family": result.family,
            "kind": result.kind,
            "task": result.task,
            "result_id": result.result_id,
            "settings_id": result.settings_id,
            "outcome": result.outcome,
        }
        empty = dict.fromkeys(COLUMNS)
        if not result.metrics:
            table.append({**empty, **shared, "reason": result.reason})
        for metric in result.metrics:
            interval = metric.interval
            table.append(
                {
                    **empty,
                    **shared,
                    "metric": metric.name,
                    "value": metric.value,
                    "unit": metric.unit,
                    "n": metric.n,
                    "low": interval.low if interval else None,
                    "high": interval.high if interval else None,
                    "level": interval.level if interval else None,
                    "interval_method": interval.method if interval else None,
                    "direction": metric.direction,
                    "convention": metric.convention,
                    "measure": metric.measure,
                    "flags": " ".join(metric.flags),
                    "reason": metric.reason,
                }
            )
    return table


def write_table(path: Path, run_id: str, results: Iterable[Result]) -> None:
    """Writes the table atomically; column types are the same however many rows or nulls there are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"n": pa.int64(), **{name: pa.string() for name in TEXT}}
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in COLUMNS])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows(run_id, results), schema=schema), buffer)
    write_atomic(path, buffer.getvalue())
