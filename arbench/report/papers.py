"""The report's plots as files for papers, SVG and PDF, and its main tables as LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from ..files import write_atomic
from . import curve_figure, energy_figure, latex, plots, rate_figure, speed_figures
from .curves import sweeps
from .figures import Drawing, safe
from .folders import Entry, RunFolder
from .page import KINDS, cards
from .rows import newest
from .tables import Table, make_table

LAYOUTS: tuple[Literal["svg", "pdf"], ...] = ("svg", "pdf")


def write_figures(runs: Sequence[RunFolder], folder: Path) -> list[Path]:
    """Writes what the report of `runs` draws below `folder`: "generator-phases-sample.pdf", "generator.tex".

    Raises `StoreError` for a folder that cannot be written.
    """
    found = [entry for run in runs for entry in run.entries]
    entries, _ = newest(found, lambda entry: entry.result)
    planned = [cell for run in runs for cell in run.missing]
    written = []
    for kind, (_, first) in KINDS.items():
        table = make_table(found, planned, kind)
        if table is None:
            continue
        files = {f"{kind}.tex": latex.to_latex(table, first, f"tab:{kind}").encode()}
        for name, drawing in drawings([entry for entry in entries if entry.result.kind == kind], table):
            files |= {f"{kind}-{name}.{layout}": drawing.file(layout) for layout in LAYOUTS}
        for name, content in files.items():
            write_atomic(folder / name, content, "arbench export RUN --figures DIR")
            written.append(folder / name)
    return written


def drawings(entries: Sequence[Entry], table: Table) -> Iterator[tuple[str, Drawing]]:
    """Every figure of the models of one kind, with its name."""
    found: dict[str, Drawing | None] = {"quality-against-speed": plots.scatter(entries, table)}
    found["quality-against-rate"] = rate_figure.figure(entries, table, cards()) if table.kind == "tokenizer" else None
    for sweep in sweeps(entry.result for entry in entries):
        found[f"along-{safe(sweep.name)}"] = curve_figure.figure(sweep)
    found["speed-and-memory"] = speed_figures.figure(speed_figures.panels(entries))
    found["energy"] = energy_figure.figure(energy_figure.spendings(entries))
    found |= {f"phases-{safe(name)}": drawing for name, drawing in plots.phase_figures(entries).items()}
    found["steps"] = plots.step_figure(entries)
    yield from ((name, drawing) for name, drawing in found.items() if drawing is not None)
