"""What MLflow is told of a run and of a cell: names, params, tags and metrics within its limits. Imports no mlflow."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from ..images import grid, png, unpack
from ..spec.result import Metric, Result

KEY_LIMIT = 250
PARAM_LIMIT = 6000
TAG_LIMIT = 5000  # 8000 on a recent server, 5000 on an old one
STATUS = {
    "ok": "FINISHED",
    "complete": "FINISHED",
    "partial": "FINISHED",
    "unsupported": "FINISHED",
    "interrupted": "KILLED",
}
"""MLflow's run status by the outcome of a cell or a run; every other outcome is FAILED."""


def metric_key(text: str) -> str:
    """`text` as MLflow allows a name: letters, digits and `_ - . space : /`, a normal path, at most 250 long."""
    parts = re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))[:KEY_LIMIT].strip("/") or "_"


def milliseconds(iso: str) -> int | None:
    """Unix time in ms of an ISO 8601 time, None where it is empty or not one."""
    try:
        return int(datetime.fromisoformat(iso).timestamp() * 1000)
    except ValueError:
        return None


def flatten(value: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Nested settings as dotted params; lists and empty mappings stay one value, None is left out."""
    flat: dict[str, str] = {}
    for key, item in value.items():
        name = f"{prefix}.{key}"
        if isinstance(item, Mapping) and item:
            flat |= flatten(item, name)
        elif item is not None:
            flat[metric_key(name)] = str(item)[:PARAM_LIMIT]
    return flat


def params(result: Result) -> dict[str, str]:
    """The resolved settings of a cell."""
    sampling = result.sampling.plain() if result.sampling else {}
    return {
        "adapter": result.adapter,
        **flatten({key: value for key, value in result.parameters.items() if key != "task"}, result.task),
        **flatten(sampling, "sampling"),
        **flatten(result.load, "load"),
    }


def tags(result: Result) -> dict[str, str]:
    """What a search filters by; metrics without a value are named in `arbench.null_metrics` with their reasons."""
    missing = "; ".join(f"{metric.name}: {metric.reason}" for metric in result.metrics if metric.value is None)
    device = result.provenance.device if result.provenance else ""
    found = {
        "arbench.adapter": result.adapter,
        "arbench.family": result.family,
        "arbench.kind": result.kind,
        "arbench.task": result.task,
        "arbench.outcome": result.outcome,
        "arbench.reason": result.reason,
        "arbench.result_id": result.result_id,
        "arbench.settings_id": result.settings_id,
        "arbench.device": device,
        "arbench.null_metrics": missing,
    }
    if result.provenance:
        found |= {f"arbench.weights.{metric_key(name)}": sha for name, sha in result.provenance.weights.items()}
    return {key[:KEY_LIMIT]: value[:TAG_LIMIT] for key, value in found.items() if value}


def metric_keys(metrics: Sequence[Metric], task: str) -> list[str]:
    """One distinct key per metric: `task/name`, with the convention behind it where a name occurs twice."""
    repeated = {name for name, count in Counter(metric.name for metric in metrics).items() if count > 1}
    keys: list[str] = []
    for metric in metrics:
        name = f"{metric.name}:{metric.convention}" if metric.name in repeated else metric.name
        key = metric_key(f"{task}/{name}")[: KEY_LIMIT - 8]  # room for _lo, _hi and a number
        unique, number = key, 2
        while unique in keys:
            unique, number = f"{key}-{number}", number + 1
        keys.append(unique)
    return keys


def metrics(result: Result) -> dict[str, float]:
    """Values with `_lo` and `_hi` where there is an interval, medians of the phases, and the cell's wall time."""
    values: dict[str, float] = {"wall_seconds": result.wall_seconds}
    for key, metric in zip(metric_keys(result.metrics, result.task), result.metrics, strict=True):
        if metric.value is None:
            continue
        values[key] = metric.value
        if metric.interval:
            values[f"{key}_lo"], values[f"{key}_hi"] = metric.interval.low, metric.interval.high
    for record in result.speed:
        for phase in record.phases:
            key = f"{result.task}/phases/{record.operation}-batch{record.batch}-{phase.phase}_s"
            values[metric_key(key)] = phase.seconds
    return values


def note(run: Mapping[str, Any], results: Sequence[Result], outcome: str) -> str:
    """Markdown for the parent run's page: a line per cell with its first metrics."""
    suite = run.get("suite") or {}
    lines = [
        f"**{suite.get('title') or suite.get('suite', 'suite')}** (version {suite.get('version', '?')}): {outcome}",
        "",
        "| adapter | task | outcome | first metrics |",
        "| --- | --- | --- | --- |",
    ]
    for result in sorted(results, key=lambda result: (result.adapter, result.task)):
        shown = [
            f"{m.name} {m.value:.4g}{f' {m.unit}' if m.unit else ''}" for m in result.metrics if m.value is not None
        ]
        cell = ", ".join(shown[:3]) if result.outcome == "ok" else result.reason
        lines.append(f"| {result.adapter} | {result.task} | {result.outcome} | {_one_line(cell)} |")
    text = "\n".join(lines)
    return text if len(text) <= TAG_LIMIT else text[: TAG_LIMIT - 40].rsplit("\n", 1)[0] + "\n\nmore in report.html"


def pairs_png(archive: bytes, most: int = 16) -> bytes | None:
    """A sheet from a `pairs.npz`, originals above reconstructions; None if it does not hold such pictures."""
    try:
        arrays = unpack(archive, ("originals", "reconstructions"))
        both = np.concatenate([arrays["originals"][:most], arrays["reconstructions"][:most]])
        return png(grid(both, columns=len(both) // 2))
    except (KeyError, ValueError, EOFError, ZeroDivisionError, zipfile.BadZipFile):
        return None


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:300]
