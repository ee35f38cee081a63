"""The leaderboard as a folder of static pages: boards, a page for each model, and the numbers as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from .. import __version__
from ..files import write_atomic
from ..spec.card import Card
from . import board_files, curve_figure, everything, number
from .board_figure import scatter
from .boards import Board, measured_boards, published_boards
from .curves import sweeps
from .folders import Entry, RunFolder, read_runs
from .page import asset, cards, environment
from .pictures import galleries
from .published import published

HINT = "name another folder: arbench leaderboard DIR... -o SITE"


@dataclass(frozen=True)
class Site:
    """What was written, the first page first, and the folders of runs that have no results to show."""

    files: tuple[Path, ...]
    empty: tuple[Path, ...]


def write_site(folders: Sequence[Path], output: Path) -> Site:
    """The site in the folder `output`, each file replaced in one step; without folders the published figures alone.

    Raises `InputError` for a folder that is none, `StoreError` where the site cannot be written.
    """
    known = cards()
    runs = read_runs(folders) if folders else []
    entries = [entry for run in runs for entry in run.entries]
    boards = made_boards(entries, known)
    files = {
        "index.html": index_page(boards, runs).encode(),
        "leaderboard.csv": board_files.to_csv(boards).encode(),
        "leaderboard.json": (json.dumps(board_files.records(boards), indent=1) + "\n").encode(),
        "leaderboard.md": board_files.to_markdown(boards).encode(),
        "leaderboard.tex": board_files.to_latex(boards).encode(),
        "leaderboard.parquet": board_files.to_parquet(boards),
    }
    for model in sorted({row.model for board in boards for row in board.rows}):
        own = [entry for entry in entries if entry.result.adapter == model]
        files[model_file(model)] = _model(model, known.get(model), own, boards).encode()
    for name, data in files.items():
        write_atomic(output / name, data, HINT)
    return Site(tuple(output / name for name in files), tuple(run.path for run in runs if not run.entries))


def made_boards(entries: Sequence[Entry], known: Mapping[str, Card]) -> list[Board]:
    """Boards of what was measured, then of what was published."""
    results = [entry.result for entry in entries]
    return [*measured_boards(entries, known), *published_boards(known.values(), results)]


def model_file(model: str) -> str:
    """The page of a model, relative to the site."""
    plain = "".join(
        letter if letter.isalnum() or letter in "-._" else "--" if letter == "/" else "_" for letter in model
    )
    return f"models/{plain.lstrip('.')}.html"


def index_page(boards: Sequence[Board], runs: Sequence[RunFolder]) -> str:
    """The first page as text."""
    return environment().get_template("leaderboard.html").render(
        boards=[{"board": board, "svg": Markup(scatter(board))} for board in boards],
        families=sorted({row.family for board in boards for row in board.rows}),
        models=len({row.model for board in boards for row in board.rows}),
        runs=len(runs),
        href=model_file,
        version=__version__,
        css=Markup(asset("report.css")),
        script=Markup(asset("report.js")),
        more_script=Markup(asset("leaderboard.js")),
    )  # fmt: skip


def _native(card: Card) -> str:
    return ", ".join(f"{name} {value}" for name, value in card.native.flat().items() if value is not None)


def _model(model: str, card: Card | None, entries: Sequence[Entry], boards: Sequence[Board]) -> str:
    results = [entry.result for entry in entries]
    found = [(board, [row for row in board.rows if row.model == model]) for board in boards]
    return environment().get_template("model.html").render(
        model=model,
        card=card,
        parameters=number.count(card.parameters) if card else "",
        native=_native(card) if card else "",
        boards=[(replace(board, rows=tuple(rows)), board) for board, rows in found if rows],
        published=published(results, {model: card}) if card and results else [],
        galleries=galleries(entries, {model: card} if card else {}) if entries else [],
        sweeps=[{"name": sweep.name, "svg": Markup(curve_figure.figure(sweep).svg())} for sweep in sweeps(results)],
        metrics=everything.metric_rows(entries),
        version=__version__,
        css=Markup(asset("report.css")),
        script=Markup(asset("report.js")),
    )  # fmt: skip
