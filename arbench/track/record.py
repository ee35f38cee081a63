"""What MLflow is told of a run and of a cell: names, params, tags and metrics within its limits. Imports no mlflow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..spec.result import OWN, Metric, Result

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
    missing = "; ".join(f"{_words(metric)}: {metric.reason}" for metric in result.metrics if metric.value is None)
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
    """One distinct key per metric: "generate/adm/fid", "speed/latency/batch 16 sample".

    The convention is left out of timings and memory, which are all our own. Numbers of one name against several
    references carry the reference too.
    """
    several = Counter(key[:2] + key[3:] for key in {metric.key for metric in metrics})
    keys: list[str] = []
    for metric in metrics:
        own = metric.key
        place = " ".join(own.place.split(", "))
        against = metric.reference.name if metric.reference and several[own[:2] + own[3:]] > 1 else ""
        parts = (task, _convention(metric), metric.name, place, against)
        key = metric_key("/".join(part for part in parts if part))[: KEY_LIMIT - 8]  # room for _lo, _hi and a number
        unique, number = key, 2
        while unique in keys:
            unique, number = f"{key}-{number}", number + 1
        keys.append(unique)
    return keys


def _convention(metric: Metric) -> str:
    return metric.convention if metric.measure == "quality" or metric.convention != OWN else ""


def _words(metric: Metric) -> str:
    """A number for people: "adm fid", "latency-p90 (batch 1, sample)"."""
    name = f"{_convention(metric)} {metric.name}".strip()
    return f"{name} ({metric.key.place})" if metric.at else name


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
            key = f"{result.task}/phases/{phase.phase}/batch {record.batch} {record.operation}"
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
            f"{_words(m)} {m.value:.4g}{f' {m.unit}' if m.unit else ''}" for m in result.metrics if m.value is not None
        ]
        cell = ", ".join(shown[:3]) if result.outcome == "ok" else result.reason
        lines.append(f"| {result.adapter} | {result.task} | {result.outcome} | {_one_line(cell)} |")
    text = "\n".join(lines)
    return text if len(text) <= TAG_LIMIT else text[: TAG_LIMIT - 40].rsplit("\n", 1)[0] + "\n\nmore in report.html"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:300]
