"""What each part of the page shows, as plain data for the template."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import registry
from ..errors import ArbenchError
from ..spec.card import Card, Claim
from ..spec.result import Metric, Result, SpeedRecord
from . import figures, number, pictures
from .folders import Entry, Planned, RunFolder
from .tables import Column, Table, bounds, column_of, describe

OUTCOMES = ("ok", "oom", "error", "timeout", "unsupported", "interrupted")
METRIC_ROWS = 4000
JSON_BYTES = 900_000


@dataclass(frozen=True)
class Verdict:
    """The head of the page for one run."""

    title: str
    run_id: str
    suite: str
    version: str
    device: str
    platform: str
    packages: str
    outcomes: tuple[tuple[str, int], ...]
    failures: tuple[tuple[str, str, str, str], ...]
    """(outcome, task, adapter, reason)"""
    command: str
    started: str
    duration: str
    cell_time: str
    cells: int


def verdict(run: RunFolder) -> Verdict:
    results = [entry.result for entry in run.entries]
    counts = Counter[str](result.outcome for result in results)
    shown = [(outcome, counts[outcome]) for outcome in OUTCOMES if counts[outcome]]
    if run.missing:
        shown.append(("not run", len(run.missing)))
    bad: list[tuple[str, str, str, str]]
    bad = [(r.outcome, r.task, r.adapter, r.reason or "no reason given") for r in results if r.outcome != "ok"]
    bad += [("not run", cell.task, cell.adapter, "the run ended before this cell") for cell in run.missing]
    known = [result.provenance for result in results if result.provenance]
    packages = known[0].packages if known else {}
    suite = run.suite
    name = str(suite.get("suite", "unnamed suite"))
    return Verdict(
        title=str(suite.get("title") or name),
        run_id=run.run_id,
        suite=name,
        version=str(suite.get("version", "?")),
        device=", ".join(dict.fromkeys(p.device for p in known)) or "unknown device",
        platform=", ".join(dict.fromkeys(p.platform for p in known)),
        packages=", ".join(
            [f"arbench {known[0].arbench}", f"Python {known[0].python}"]
            + [f"torch {packages['torch']}"] * ("torch" in packages)
            if known
            else []
        ),
        outcomes=tuple(shown),
        failures=tuple(dict.fromkeys(bad)),  # tasks of a suite may fail for one reason
        command=_command(run.run.get("argv") or ()),
        started=_minute(str(run.run.get("started") or run.run.get("created") or "")),
        duration=number.duration(run.seconds) if run.seconds is not None else "",
        cell_time=number.duration(sum(result.wall_seconds for result in results)),
        cells=len(results) + len(run.missing),
    )


def _minute(iso: str) -> str:
    """An ISO 8601 time to the minute, in UTC where it says its zone; as it is where it is no such time."""
    try:
        time = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if time.tzinfo else f"{time:%Y-%m-%d %H:%M}"


def _command(argv: Sequence[Any]) -> str:
    words = [str(word) for word in argv]
    if not words:
        return "unknown"
    if words[0].rsplit("/", 1)[-1] in ("arbench", "__main__.py"):
        words = words[1:]
    return shlex.join(["arbench", *words])


def cards() -> Mapping[str, Card]:
    """The cards known here; none if a package's cards cannot be loaded, for a report must not fail over that."""
    try:
        return registry.cards()
    except ArbenchError:
        return {}


def labels(entries: Sequence[Entry]) -> dict[tuple[str, str], str]:
    """Names for plots and pictures by (adapter, settings_id): short where that is clear among generators or tokenizers,
    with the settings where an adapter has several."""
    results: dict[tuple[str, str], Result] = {}
    for entry in entries:
        results.setdefault((entry.result.adapter, entry.result.settings_id), entry.result)
    kinds = {result.adapter: result.kind for result in results.values()}
    tails = Counter((kind, adapter.rsplit("/", 1)[-1]) for adapter, kind in kinds.items())
    settings = Counter(adapter for adapter, _ in results)
    found = {}
    for key, result in results.items():
        tail = result.adapter.rsplit("/", 1)[-1]
        name = tail if tails[result.kind, tail] == 1 else result.adapter
        found[key] = f"{name} ({describe(result)})" if settings[result.adapter] > 1 else name
    return found


# ---- quality against speed ----


def quality_column(table: Table) -> Column | None:
    """The first column of quality, by the table's order, that at least one row has a value in."""
    return next((column for column in table.columns if column.group == "Quality" and column.direction), None)


def scatter(entries: Sequence[Entry], table: Table) -> str:
    """The plot of quality against time per image as SVG, "" where one of the two is missing."""
    column = quality_column(table)
    if column is None:
        return ""
    names = labels(entries)
    quality = {}
    for entry in entries:
        for metric in entry.result.metrics:
            if metric.value is not None and column_of(entry.result, metric).key == column.key:
                quality[entry.result.adapter, entry.result.settings_id] = metric
    points = []
    for entry in entries:
        key = (entry.result.adapter, entry.result.settings_id)
        measured = quality.get(key)
        for record in _main_records(entry.result):
            if measured is not None and measured.value is not None:
                span = _latency_span(entry.result, record)
                points.append(
                    figures.Point(
                        names[key], record.batch, record.seconds / record.batch, measured.value, span, bounds(measured)
                    )
                )
    unit = f" [{column.unit}]" if column.unit else ""
    heading = f"{column.name}{unit}, {column.direction} is better"
    return figures.quality_against_speed(points, heading, column.direction) if points else ""


def _main_records(result: Result) -> list[SpeedRecord]:
    """A generator's only operation; of a tokenizer's, decoding, which is what generation pays for."""
    operations = {record.operation for record in result.speed}
    wanted = "decode" if "decode" in operations else next(iter(sorted(operations)), "")
    return [record for record in result.speed if record.operation == wanted]


def _latency_span(result: Result, record: SpeedRecord) -> tuple[float, float] | None:
    """The interval, per image, of the latency metric that the record's median is a copy of."""
    for metric in result.metrics:
        if metric.unit == "s" and metric.value == record.seconds and (span := bounds(metric)):
            return span[0] / record.batch, span[1] / record.batch
    return None


# ---- phases ----


def phase_figures(entries: Sequence[Entry]) -> list[str]:
    """Stacked bars per operation."""
    names = labels(entries)
    bars: dict[str, list[figures.Bar]] = {}
    for entry in entries:
        name = names[entry.result.adapter, entry.result.settings_id]
        for record in entry.result.speed:
            phases = {phase.phase: phase.seconds / record.batch for phase in record.phases}
            if phases:
                bars.setdefault(record.operation, []).append(figures.Bar(name, record.batch, phases))
    return [figures.phase_bars(own, operation) for operation, own in bars.items()]


def step_figure(entries: Sequence[Entry]) -> str:
    """Median time by AR step, a panel per batch size, "" without data.

    Reads `batch<b>_sample_steps`, (calls, steps) seconds with NaN for steps that a call lacks, of latency.npz.
    """
    names = labels(entries)
    curves: dict[int, dict[str, NDArray[np.float64]]] = {}
    for entry in entries:
        arrays = entry.arrays("latency.npz") or {}
        for key, steps in arrays.items():
            batch = key.removeprefix("batch").removesuffix("_sample_steps")
            if not key.endswith("_sample_steps") or not batch.isdecimal() or steps.ndim != 2 or steps.shape[1] < 2:
                continue
            name = names[entry.result.adapter, entry.result.settings_id]
            known = steps[:, ~np.isnan(steps).all(axis=0)]
            curves.setdefault(int(batch), {})[name] = np.nanmedian(known, axis=0)
    return figures.step_curves(dict(sorted(curves.items()))) if curves else ""


# ---- pictures ----


@dataclass(frozen=True)
class Pictures:
    """The pictures of the page: samples of all generators, reconstructions by data source, edits by what is edited."""

    samples: tuple[pictures.Gallery, ...]
    pairs: tuple[pictures.Gallery, ...]
    edits: tuple[pictures.Gallery, ...]


def galleries(entries: Sequence[Entry]) -> Pictures:
    """All pictures, within one budget."""
    names = labels(entries)
    ordered = [(names[e.result.adapter, e.result.settings_id], e) for e in entries]
    found = [p for name, e in ordered if (p := pictures.sample_pictures(e, name)) is not None]
    sources: dict[str, list[tuple[str, str, Entry]]] = {}
    edits: dict[str, list[tuple[str, Entry]]] = {}
    for name, entry in ordered:
        files = entry.result.artifacts.values()
        if "pairs.npz" in files:
            source = str(entry.result.parameters.get("data", "images"))
            sources.setdefault(source, []).append((name, "", entry))
        if "edits.npz" in files:
            edits.setdefault(_edit_title(entry.result.parameters), []).append((name, entry))
    share = pictures.BUDGET // max(1, bool(found) + len(sources) + len(edits))
    samples = pictures.sample_gallery(found, share)
    pairs = (pictures.reconstruction_gallery(own, source, share) for source, own in sources.items())
    edited = (pictures.edit_gallery(own, title, share) for title, own in edits.items())
    return Pictures(
        samples=(samples,) if samples else (),
        pairs=tuple(gallery for gallery in pairs if gallery),
        edits=tuple(gallery for gallery in edited if gallery),
    )


def _edit_title(parameters: Mapping[str, Any]) -> str:
    """What an edit does: "Outpainting: border redrawn, the image's own class (mnist5k/heldout)"."""
    mask = parameters.get("mask", "?")
    own = parameters.get("condition") != "next"
    kind = ("Outpainting" if mask == "border" else "Inpainting") if own else "Editing by class"
    part = mask if isinstance(mask, str) else "box " + " ".join(f"{edge:g}" for edge in mask)
    label = "the image's own class" if own else "the next class"
    return f"{kind}: {part} redrawn, {label} ({parameters.get('data', 'images')})"


# ---- published figures ----


@dataclass(frozen=True)
class Published:
    adapter: str
    claim: Claim
    claimed: str
    settings: str
    measured: str
    measured_title: str
    difference: str


def published(entries: Sequence[Entry], known: Mapping[str, Card]) -> list[Published]:
    """Claims of the cards beside our numbers of the same metric; a number of another extractor is another metric."""
    rows = []
    for adapter in dict.fromkeys(entry.result.adapter for entry in entries):
        own = [entry.result for entry in entries if entry.result.adapter == adapter]
        for claim in known[adapter].published if adapter in known else ():
            settings = ", ".join(f"{key} {value}" for key, value in claim.settings.items())
            match = _measured(own, claim)
            if match is None or match.value is None:
                title = match.reason if match else f"no metric named {claim.metric} in these results"
                rows.append(Published(adapter, claim, f"{claim.value:g}", settings, "–", title, ""))
                continue
            span = bounds(match)
            text, interval = number.with_interval(match.value, *(span or (None, None)))
            title = f"{match.name}, n = {match.n:,}, {match.convention}"
            shown = f"{text} [{interval}]" if interval else text
            difference = f"{match.value - claim.value:+.3g}"
            rows.append(Published(adapter, claim, f"{claim.value:g}", settings, shown, title, difference))
    return rows


def _measured(results: Sequence[Result], claim: Claim) -> Metric | None:
    wanted = claim.metric.lower()
    metrics = [metric for result in results for metric in result.metrics]
    alike = [metric for metric in metrics if metric.name.lower() == wanted]
    alike += [metric for metric in metrics if metric.name.lower().startswith(f"{wanted}-")]
    return next((metric for metric in alike if metric.value is not None), alike[0] if alike else None)


# ---- everything ----


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


def planned_cells(runs: Sequence[RunFolder]) -> list[Planned]:
    return [cell for run in runs for cell in run.missing]
