"""All numbers, the raw results, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..spec.card import Card
from ..spec.result import Metric
from . import number
from .folders import Entry
from .tables import bounds

METRIC_ROWS = 4000
JSON_BYTES = 900_000


@dataclass(frozen=True)
class MetricRow:
    adapter: str
    task: str
    metric: Metric
    text: str
    interval: str
    unit: str
    settings_id: str
    run_id: str


def metric_rows(entries: Iterable[Entry]) -> list[MetricRow]:
    rows = []
    for entry in entries:
        for metric in entry.result.metrics:
            values = [] if metric.value is None else [metric.value]
            unit, scale = number.fitting_unit(metric.unit, values)
            text, interval = "–", ""
            if metric.value is not None:
                low, high = bounds(metric) or (None, None)
                text, interval = number.with_interval(
                    metric.value / scale,
                    None if low is None else low / scale,
                    None if high is None else high / scale,
                )
            result = entry.result
            rows.append(
                MetricRow(result.adapter, result.task, metric, text, interval, unit, result.settings_id, entry.run_id)
            )
    return rows


@dataclass(frozen=True)
class RawResult:
    title: str
    text: str


def raw_results(entries: Sequence[Entry]) -> list[RawResult]:
    """result.json of every cell, until the page would grow too large."""
    found, used = [], 0
    for entry in entries:
        result = entry.result
        text = json.dumps(result.plain(), indent=1, ensure_ascii=False)
        used += len(text)
        title = f"{result.task} {result.adapter} {result.result_id}"
        if used > JSON_BYTES:
            text = f"left out to keep this page small: cells/{result.result_id}/result.json in run {entry.run_id}"
        found.append(RawResult(title, text))
    return found


def provenance(entries: Sequence[Entry], known: Mapping[str, Card]) -> dict[str, list[tuple[str, str]]]:
    """Facts by heading; each value once, however many results share it."""
    sections: dict[str, dict[tuple[str, str], None]] = {}

    def add(section: str, name: str, value: object) -> None:
        if value not in ("", None):
            sections.setdefault(section, {})[name, str(value)] = None

    for entry in entries:
        p = entry.result.provenance
        if p is None:
            continue
        for name, value in (("device", p.device), ("platform", p.platform), ("threads", p.threads)):
            add("Machine", name, value)
        for name, value in (("arbench", p.arbench), ("git", p.git), ("Python", p.python), *p.packages.items()):
            add("Software", name, value)
        for name, value in p.environment.items():
            add("Environment", name, value)
        for name, value in p.weights.items():
            add("Weights (sha256)", name, value)
        for name, value in p.data.items():
            add("Data (digest)", name, value)
    for adapter in dict.fromkeys(entry.result.adapter for entry in entries):
        card = known.get(adapter)
        if card:
            add("Licences", adapter, f"code {card.code_licence}; weights {card.weights_licence}")
            add("Sources", adapter, card.source)
    return {section: list(values) for section, values in sections.items()}
