"""Writes the report: a single HTML file that needs no network, no server and no JavaScript."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from .. import __version__, registry
from ..errors import ArbenchError
from ..files import write_atomic
from ..spec.card import Card
from ..spec.flags import FLAGS
from . import (
    audit_sheets,
    curve_figure,
    distortion_figure,
    energy_figure,
    everything,
    figures,
    history,
    number,
    plots,
    rate_figure,
    scaling,
    size,
    speed_figures,
)
from .changes import Against, Changes, with_changes
from .curves import Sweep, sweeps, told_apart
from .figures import Drawing
from .folders import Entry, Planned, RunFolder, read_runs
from .pictures import galleries, unranked
from .published import published
from .repeats import entries_together
from .rows import newest
from .series import night
from .tables import Kind, Table, make_table
from .verdict import verdict

KINDS: dict[Kind, tuple[str, str]] = {
    "generator": ("Generators", "Generator"),
    "tokenizer": ("Tokenizers", "Tokenizer"),
    "images": ("Images", "Source"),
}
"""The main tables, and the heading of their first column."""
TEMPLATES = PAGE, PARTS = "page.html", "parts.html"
METRICS, RAW = Markup("<!-- all numbers -->"), Markup("<!-- raw results -->")
"""Where these go in the page once the room that is left for them is known."""
HISTORY, MOST = 40, 400
"""Series that are shown at first, and beside them at most."""


def write_report(folders: Sequence[Path], output: Path, against: Against | None = None) -> Path:
    """The report of one or more run folders at `output`, replaced in one step. `against`: makes the differences to a
    baseline, which the report then shows.

    Raises `InputError` for a folder that is not there, `StoreError` for one that is damaged and for an output that
    cannot be written.
    """
    page = render(read_runs(folders), against)
    write_atomic(output, page.encode(), "arbench report DIR -o FILE")
    return output


def prepare() -> None:
    """Does ahead what any report takes: importing this module is most of it."""
    cards()
    for name in TEMPLATES:
        environment().get_template(name)


def render(runs: Sequence[RunFolder], against: Against | None = None) -> str:
    """The page as text."""
    found = [entry for run in runs for entry in run.entries]
    entries, _ = newest(found, lambda entry: entry.result)
    entries = entries_together(entries)
    planned = [cell for run in runs for cell in run.missing]
    known = cards()
    shown = galleries(entries, known)  # first, for damaged files show up here and plots take seconds
    changes = against(runs) if against is not None else None
    blocks = [block for kind in KINDS if (block := _block(kind, found, entries, planned, known, changes))]
    latest = sorted(runs, key=lambda run: str(run.run.get("started", "")), reverse=True) if len(runs) > 2 else runs
    verdicts = [verdict(run) for run in latest]
    title = verdicts[0].title if len(verdicts) == 1 else f"{len(verdicts)} runs"
    pages = environment()
    page = pages.get_template(PAGE).render(
        title=title,
        version=__version__,
        css=Markup(asset("report.css")),
        script=Markup(asset("report.js")),
        verdicts=verdicts,
        other_failures=sum(bool(each.failures) for each in verdicts[1:]),
        blocks=blocks,
        changes=changes,
        audits=audit_sheets.sheets(entries, known),
        planes=[
            (plane, _inline(distortion_figure.figure(plane))) for plane in distortion_figure.planes(entries, known)
        ],
        galleries=shown,
        unranked=unranked(entries),
        history=_history(runs),
        published=published([entry.result for entry in entries], known),
        metrics=METRICS,
        provenance=everything.provenance(found, known),
        raw=RAW,
        cards=known,
        count=number.count,
    )  # fmt: skip
    return _filled(page, found, pages)


def _filled(page: str, found: Sequence[Entry], pages: jinja2.Environment) -> str:
    """The page with all numbers and the raw results, as far as there is room for them."""
    parts, rows = pages.get_template(PARTS).module, everything.metric_rows(found)
    for_rows, for_raw = size.room_for(page, (0.5, 0.5))
    written = size.within(for_rows, rows, parts.metric_row, everything.METRIC_ROWS)  # type: ignore[attr-defined]
    for_raw += for_rows - sum(len(text.encode()) for text in written)
    raw = size.within(for_raw, everything.raw_results(found), parts.raw_result, everything.RAW_RESULTS)  # type: ignore[attr-defined]
    metrics = parts.metrics(written, len(rows))  # type: ignore[attr-defined]
    return page.replace(METRICS, metrics).replace(RAW, parts.raw_results(raw, len(found)))  # type: ignore[attr-defined]


def _history(runs: Sequence[RunFolder]) -> dict[str, object]:
    """The numbers that several of the runs have under the same settings: those with steps first."""
    nights = sorted((night(run) for run in runs), key=lambda each: (each.started, each.run_id))
    found = history.series_of(nights) if len(nights) > 1 else []
    found.sort(key=lambda series: (not series.shown, not series.steps))
    first = [series for series in found if series.shown or series.steps]
    rest = [*first[HISTORY:], *(series for series in found if not (series.shown or series.steps))]
    return {
        "able": history.can_find_steps(),
        "missing": history.MISSING,
        "rows": [_series(series) for series in first[:HISTORY]],
        "more": [_series(series) for series in rest[:MOST]],
    }


def _series(series: history.Series) -> dict[str, object]:
    known = [value for _, value in series.known]
    kinds = {True: "better", False: "worse", None: "changed"}
    return {
        "model": series.title,
        "words": series.words,
        "nights": len(known),
        "svg": Markup(history.sparkline(series)),
        "change": _change(known[0], known[-1]),
        "verdict": _verdict(series),
        "first": history.value_text(series, known[0]),
        "last": history.value_text(series, known[-1]),
        "steps": [(kinds[series.better(step)], series.told(step)) for step in series.steps],
    }


def _change(first: float, last: float) -> str:
    if first == last:
        return "identical"
    return f"{100 * (last / first - 1):+.1f} %" if first > 0 else ""


def _verdict(series: history.Series) -> str:
    """How the last night differs from the first: "better", "worse", "changed", or "" where their intervals, taken as of
    independent estimates, do not tell them apart.
    """
    first, last = (night.readings[series.key].metric for night in (series.known[0][0], series.known[-1][0]))
    if first.interval is None or last.interval is None or not told_apart(first, last):
        return ""
    if series.direction is None:
        return "changed"
    return "better" if ((last.value or 0) > (first.value or 0)) == (series.direction == "higher") else "worse"


def cards() -> Mapping[str, Card]:
    """The cards known here; none if a package's cards cannot be loaded, for a report must not fail over that."""
    try:
        return registry.cards()
    except ArbenchError:
        return {}


def _block(
    kind: Kind,
    found: Sequence[Entry],
    entries: Sequence[Entry],
    planned: Sequence[Planned],
    known: Mapping[str, Card],
    changes: Changes | None,
) -> dict[str, object] | None:
    """What is shown of the generators, the tokenizers, or the scored images."""
    table = make_table(found, planned, kind)
    if table is None:
        return None
    table = with_changes(table, changes)
    own = [entry for entry in entries if entry.result.kind == kind]
    few, left_out = size.fitted(table)
    exported = size.exported(table, KINDS[kind][1], f"tab:{kind}")
    along = sweeps(entry.result for entry in own)
    return {
        "kind": kind,
        "title": KINDS[kind][0],
        "one": KINDS[kind][1],
        "table": few,
        "left_out": left_out,
        "titles": size.shared_titles(few),
        "legend": _legend(table),
        "remarks": _flags(own),
        "devices": len({row.device for row in table.rows if row.device}) > 1,
        "csv": "data:text/csv;charset=utf-8," + quote(exported.csv, safe=",:/()[]=;+") if exported.csv else "",
        "exported": exported,
        "scatter": _inline(plots.scatter(own, table)),
        "points": _points(own, table),
        "better": next((c.direction for c in [plots.quality_column(table)] if c is not None), None) or "",
        "rate": _inline(rate_figure.figure(own, table, known) if kind == "tokenizer" else None),
        "sweeps": [_sweep(each, size.POINTS // len(along)) for each in along],
        "steps": _inline(plots.step_figure(own)),
        "speed": _inline(speed_figures.figure(speed_figures.panels(own))),
        "energy": _inline(energy_figure.figure(energy_figure.spendings(own))),
        "ratios": scaling.ratios(own) if kind == "generator" else [],
        "slopes": scaling.slopes(own, known) if kind == "generator" else [],
        "phases": [_inline(drawing) for drawing in plots.phase_figures(own).values()],
    }


def _inline(drawing: Drawing | None) -> Markup:
    return Markup(drawing.svg() if drawing else "")


def _points(entries: Sequence[Entry], table: Table) -> dict[tuple[str, str, str], str]:
    """Row -> ids of its points in the plot of quality against speed, of their line and of their name."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for point, row in plots.speed_points(entries, table).items():
        line, name = figures.safe(f"line-{point.name}-{point.setting}"), figures.safe(f"name-{point.name}")
        found.setdefault((row.adapter, row.settings_id, row.device), [line, name]).append(figures.identity(point))
    return {key: " ".join(ids) for key, ids in found.items()}


def _flags(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Each flag of the numbers with its text: the results' own remarks, and for others what the code means."""
    remarks = dict.fromkeys((r.code, r.text) for entry in entries for r in entry.result.remarks)
    told = {code for code, _ in remarks}
    codes = dict.fromkeys(flag for entry in entries for metric in entry.result.metrics for flag in metric.flags)
    return [*remarks, *((code, FLAGS.get(code, "")) for code in codes if code not in told)]


def _sweep(sweep: Sweep, points: int) -> dict[str, object]:
    """The figure of a sweep, of about `points` points, and a line for the best value of each curve."""
    few, left_out = size.fewer_curves(sweep, points, curve_figure.panels(sweep))
    lines = []
    for best in sweep.optima:
        interval = best.metric.interval
        low, high = (interval.low, interval.high) if interval else (None, None)
        text, spread = number.with_interval(best.metric.value or 0.0, low, high)
        alike = "alone" if best.alone else f"{best.low:g} to {best.high:g}"
        lines.append((best.column.words, best.curve.name, f"{best.x:g}", best.at_end, text, spread, alike))
    return {"name": sweep.name, "svg": _inline(curve_figure.figure(few)), "left_out": left_out, "optima": lines}


def _legend(table: Table) -> list[tuple[str, str, str, str]]:
    """(name, unit, better, how it was computed) of each column."""
    better = {"higher": "higher is better", "lower": "lower is better", None: ""}
    return [(column.words, column.shown_unit, better[column.direction], column.how) for column in table.columns]


@functools.cache
def environment() -> jinja2.Environment:
    """The templates of all pages, each compiled once: a site has hundreds of pages."""
    templates = files("arbench.reports") / "templates"
    texts = {item.name: item.read_text(encoding="utf-8") for item in templates.iterdir() if item.name.endswith(".html")}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(texts),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["breakable"] = _breakable
    environment.filters["flag_text"] = lambda code: FLAGS.get(code, "")
    return environment


def _breakable(text: str) -> Markup:
    """`text` with a place to break the line after each separator."""
    return Markup("<wbr>").join(re.split(r"(?<=[-_/])", text))


def asset(name: str) -> str:
    """The text of a file of styles or scripts."""
    return (files("arbench.reports") / "assets" / name).read_text(encoding="utf-8")
