"""All numbers, the raw results, and where they come from."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..spec.card import Card
from ..spec.result import Metric
from . import number
from .columns import device
from .folders import Entry
from .rows import described
from .tables import bounds

METRIC_ROWS, RAW_RESULTS = 4000, 400
"""In the page at most."""


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
    settings: str
    """How it was run, and of which run, seed and device it is where there are several."""


def _settings(entries: Sequence[Entry]) -> list[str]:
    """Of each entry, in words that tell it from the others."""
    told = described(entry.result for entry in entries)
    more = [
        {"seed": str(entry.result.load.get("seed", 0)), "on": device(entry.result), "run": entry.run_id}
        for entry in entries
    ]
    several = [name for name in ("seed", "on", "run") if len({each[name] for each in more if each[name]}) > 1]
    return [
        " · ".join(
            part
            for part in (
                told[entry.result.adapter, entry.result.settings_id],
                *(f"{name} {each[name]}" for name in several if each[name]),
            )
            if part
        )
        for entry, each in zip(entries, more, strict=True)
    ]


def metric_rows(entries: Sequence[Entry]) -> list[MetricRow]:
    rows = []
    told = _settings(entries)
    for entry, settings in zip(entries, told, strict=True):
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
            own = entry.result
            known = own.settings_id, entry.run_id, settings
            rows.append(MetricRow(own.adapter, own.task, metric, text, interval, unit, *known))
    return rows


@dataclass(frozen=True)
class RawResult:
    title: str
    text: Markup


def raw_results(entries: Iterable[Entry]) -> Iterator[RawResult]:
    """result.json of every cell, escaped as the text of an element needs it."""
    for entry in entries:
        result = entry.result
        text = json.dumps(result.plain(), indent=1, ensure_ascii=False)
        title = f"{result.task} {result.adapter} {result.result_id}"
        yield RawResult(title, Markup(html.escape(text, quote=False)))


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
        add("Machine", "executor", p.executor if p.executor != "local" else "")
        add("Machine", "threads of the samples", p.sampling_threads)
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
