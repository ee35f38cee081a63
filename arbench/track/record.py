"""What MLflow is told: names, params, tags and metrics of cells, settings and runs, within its limits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..spec.result import OWN, Metric, Provenance, Result
from ..spec.task import tasks

KEY_LIMIT = 250
PARAM_LIMIT = 6000
DATA_NAME, DATA_DIGEST = 500, 36
"""Characters of a data set's name and digest."""
TAG_LIMIT = 5000  # 8000 on a recent server, 5000 on an old one
CELLS = "arbench.cells."
"""Start of the tags, one for each task, that name the results in a run of MLflow."""
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


def shared_tags(result: Result) -> dict[str, str]:
    """What all cells of one settings have alike, and a search filters by."""
    found = {
        "arbench.adapter": result.adapter,
        "arbench.family": result.family,
        "arbench.kind": result.kind,
        "arbench.settings_id": result.settings_id,
    }
    if result.provenance:
        found |= software(result.provenance)
        found |= {f"arbench.weights.{metric_key(name)}": sha for name, sha in result.provenance.weights.items()}
    return _cut(found)


def software(provenance: Provenance) -> dict[str, str]:
    """What computed a number: the commit also under the name that MLflow's own pages show."""
    return _cut(
        {
            "arbench.version": provenance.arbench,
            "arbench.git": provenance.git,
            "mlflow.source.git.commit": provenance.git.removesuffix("-dirty"),
            "arbench.python": provenance.python,
            "arbench.torch": provenance.packages.get("torch", ""),
        }
    )


def merged_tags(known: Mapping[str, str], result: Result) -> dict[str, str]:
    """The tags that a cell adds to, or changes in, those of the run of its settings.

    Conventions, flags and devices of all cells stand in one tag each; outcome, reason and missing numbers (with their
    reasons) in one for each task. `arbench.outcome` is the first that is not ok.
    """
    task = result.task
    outcomes = cells(known, task) | {result.result_id: result.outcome}
    missing = "; ".join(f"{_words(metric)}: {metric.reason}" for metric in result.metrics if metric.value is None)
    sets = {
        "arbench.tasks": [task],
        "arbench.device": [result.provenance.device] if result.provenance else [],
        "arbench.conventions": [convention for metric in result.metrics if (convention := _convention(metric))],
        "arbench.flags": [flag for metric in result.metrics for flag in metric.flags],
    }
    found = shared_tags(result)
    for name, own in sets.items():
        before = known[name].split("; ") if known.get(name) else []
        found[name] = "; ".join(dict.fromkeys([*before, *own]))
    found[f"{CELLS}{task}"] = ", ".join(f"{cell} {outcome}" for cell, outcome in outcomes.items())
    now = {**known, **found}
    tasks_in = [name.removeprefix(CELLS) for name in now if name.startswith(CELLS)]
    bad = sorted({outcome for each in tasks_in for outcome in cells(now, each).values()} - {"ok"})
    found["arbench.outcome"] = bad[0] if bad else "ok"
    # an empty text takes back what an earlier try of the cell has said
    told = {f"arbench.reason.{task}": result.reason, f"arbench.null_metrics.{task}": missing}
    found |= {name: text for name, text in told.items() if text or known.get(name)}
    return {name: text for name, text in _cut(found, empty=True).items() if text or name in told}


def cells(tags: Mapping[str, str], task: str) -> dict[str, str]:
    """Result id -> outcome of the cells of a task that are in a run of MLflow, in the order in which they came."""
    listed = tags.get(f"{CELLS}{task}", "")
    return dict(part.split(" ", 1) for part in listed.split(", ")) if listed else {}


def swept(run: Mapping[str, Any]) -> dict[str, str]:
    """Result id -> its place in a sweep, in words, of the cells in the plan of run.json."""
    planned = (run.get("plan") or {}).get("cells") or ()
    found = (each.get("cell", each) for each in planned if isinstance(each, dict))
    return {str(cell["result_id"]): str(cell["swept"]) for cell in found if cell.get("swept")}


def _cut(tags: Mapping[str, str], empty: bool = False) -> dict[str, str]:
    return {key[:KEY_LIMIT]: value[:TAG_LIMIT] for key, value in tags.items() if value or empty}


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
    values: dict[str, float] = {metric_key(f"{result.task}/wall_seconds"): result.wall_seconds}
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


def summary(results: Sequence[Result]) -> dict[str, tuple[float, Result]]:
    """For the run of a suite: each adapter's best value, over its settings, of the numbers that the tasks pick for
    their summaries, and the result that has it. Numbers without a better direction are left out.
    """
    found: dict[str, tuple[float, Result]] = {}
    for result in results:
        definition = tasks().get(result.task)
        keys = metric_keys(result.metrics, result.task)
        for pick in definition.summary if definition else ():
            metric = pick.of(result.metrics)
            if metric is None or metric.value is None or metric.direction is None:
                continue
            key = keys[result.metrics.index(metric)]
            # one section of the page that draws charts, which makes one of each folder
            name = metric_key(f"best/{result.adapter} {key}".replace("/", ":").replace(":", "/", 1))
            sign = 1 if metric.direction == "higher" else -1
            if name not in found or sign * metric.value > sign * found[name][0]:
                found[name] = metric.value, result
    return found


def counts(results: Sequence[Result]) -> dict[str, float]:
    """Cells by outcome, and the time in them."""
    outcomes = Counter(result.outcome for result in results)
    found = {f"cells/{outcome}": float(count) for outcome, count in outcomes.items()}
    return found | {"wall_seconds": sum(result.wall_seconds for result in results)}


def data(result: Result) -> dict[str, str]:
    """Name -> digest of what the numbers were compared with and what the task read."""
    found = dict(result.provenance.data) if result.provenance else {}
    return found | {metric.reference.name: metric.reference.digest for metric in result.metrics if metric.reference}


def dataset(name: str, digest: str) -> tuple[str, str]:
    """Name and digest of a set of images as MLflow takes them."""
    return name[:DATA_NAME], (digest or "unknown")[:DATA_DIGEST]


def references(result: Result) -> dict[str, tuple[str, str]]:
    """Of each key of `metrics` that is of a number against a set of images the name and the digest of that set."""
    found: dict[str, tuple[str, str]] = {}
    for key, metric in zip(metric_keys(result.metrics, result.task), result.metrics, strict=True):
        if metric.reference is not None:
            own = dataset(metric.reference.name, metric.reference.digest)
            found |= dict.fromkeys((key, f"{key}_lo", f"{key}_hi"), own)
    return found


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
