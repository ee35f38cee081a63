"""The leaderboard: what may share a table and a column, what is missing and why, and the files beside the pages."""

from __future__ import annotations

import io
import json
import shutil

import pyarrow.parquet as pq
import pytest

from arbench import registry
from arbench.cli.main import main
from arbench.report import board_files
from arbench.report.board_figure import scatter
from arbench.report.boards import DIRECTIONS, Board, BoardCell, BoardColumn, BoardRow
from arbench.report.folders import read_runs
from arbench.report.site import made_boards, model_file, write_site


@pytest.fixture(scope="module")
def boards():
    return made_boards([], registry.cards())


def test_every_published_figure_is_on_a_board_of_its_protocol(boards):
    claims = [claim for card in registry.cards().values() for claim in card.published]
    shown = [
        cell
        for board in boards
        for row in board.rows
        for column, cell in zip(board.columns, row.cells, strict=True)
        if column.origin == "published" and column.words != "steps" and cell.value is not None
    ]
    assert len(shown) == len(claims)
    assert sorted(cell.value for cell in shown) == sorted(claim.value for claim in claims)
    assert all(cell.source for cell in shown)
    assert len({board.id for board in boards}) == len(boards)
    adm = max((b for b in boards if "ADM" in b.protocol and "256" in b.title), key=lambda board: len(board.rows))
    forks = [board for board in boards if "torch-fidelity" in board.protocol]
    assert forks
    assert adm not in forks
    fids = [row.cells[adm.quality].value for row in adm.rows]
    assert fids == sorted(fids)
    missing = [cell for row in adm.rows for cell in row.cells if cell.value is None]
    assert missing
    assert all(cell.title for cell in missing)


def test_columns_stand_in_one_order_and_say_what_is_better(boards):
    """An order of a set differs between processes."""
    published = [[c for c in board.columns if c.origin == "published" and c.words != "steps"] for board in boards]
    for columns in published:
        names = [column.words for column in columns]
        assert names == sorted(names, key=list(DIRECTIONS).index)
    assert any(len(columns) > 3 for columns in published)


def test_measured_and_published_share_no_column(run_folder):
    entries = [entry for run in read_runs([run_folder]) for entry in run.entries]
    found = made_boards(entries, registry.cards())
    for board in found:
        origins = {column.origin for column in board.columns}
        assert "published" not in origins or board.origin == "published"
    own = [board for board in found if board.origin == "measured"]
    (generators,) = [board for board in own if board.title.startswith("Generators")]
    assert {"frechet (offline)", "latency (batch 1, sample)"} <= {column.words for column in generators.columns}
    assert "against mnist5k/heldout, 1,000 images" in generators.protocol
    failed = next(row for row in generators.rows if row.model == "next_scale/var-mini")
    assert failed.settings_id.startswith("set-")


def test_values_are_in_the_unit_beside_them(run_folder):
    """The tables are printed in milliseconds; files have seconds, and the figure's axis is that of the table."""
    entries = [entry for run in read_runs([run_folder]) for entry in run.entries]
    found = made_boards(entries, registry.cards())
    (board,) = [each for each in found if each.origin == "measured" and each.title.startswith("Generators")]
    (row,) = [
        each
        for each in board_files.records([board])
        if (each["model"], each["number"]) == ("next_scale/var-mini", "latency (batch 1, sample)") and each["value"]
    ]
    assert (row["value"], row["unit"]) == (0.0441, "s")
    assert board.cost is not None
    shown = board.columns[board.cost]
    assert (shown.unit, shown.scale) == ("ms", 1e-3)
    ticks = [float(part.split("<")[0]) for part in scatter(board).split('text-anchor="middle">')[1:]]
    assert ticks
    assert min(ticks) >= 10


def test_a_site_of_published_figures_alone(tmp_path, capsys):
    assert main(["leaderboard", "-o", str(tmp_path / "site")]) == 0
    index = (tmp_path / "site" / "index.html").read_text()
    for href in {part.split('"')[0] for part in index.split('href="models/')[1:]}:
        assert (tmp_path / "site" / "models" / href).is_file()
    assert f'href="{model_file("random_order/rar-xxl")}"' in index
    assert "1.48" in index
    table = pq.read_table(io.BytesIO((tmp_path / "site" / "leaderboard.parquet").read_bytes()))
    assert table.num_rows == len(json.loads((tmp_path / "site" / "leaderboard.json").read_text()))
    tex = (tmp_path / "site" / "leaderboard.tex").read_text()
    assert "\\toprule" in tex
    assert "random\\_order/rar-xxl" in tex
    assert tex.count("\\begin{longtable}") == tex.count("\\end{longtable}") == tex.count("\\endfirsthead") > 0


def test_a_site_of_runs_has_pages_with_samples(run_folder, tmp_path):
    write_site([run_folder], tmp_path / "site")
    page = (tmp_path / "site" / model_file("next_scale/var-mini")).read_text()
    assert "data:image/" in page
    assert "licence of weights" in page


def test_a_run_without_results_is_named(run_folder, tmp_path, capsys):
    shutil.copytree(run_folder, tmp_path / "empty")
    shutil.rmtree(tmp_path / "empty" / "cells")
    words = ["leaderboard", str(run_folder), str(tmp_path / "empty"), "-o", str(tmp_path / "site")]
    assert main(words) == 0
    (note,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("note: "))
    assert note.startswith(f"note: {tmp_path / 'empty'} has no results: arbench status ")


def test_names_of_strangers_stay_text_and_in_the_folder():
    assert model_file("../../etc/passwd") == "models/--..--etc--passwd.html"
    row = BoardRow("<b>&x</b>", "<i>", "s & s", "", (BoardCell("1_0", 1.0), BoardCell("2", 2.0)))
    columns = (BoardColumn("fid", "", "lower", "measured"), BoardColumn("latency|x", "ms", "lower", "measured"))
    board = Board("b", "T", "p", "measured", columns, (row, row), 0, 1)
    assert "<b>" not in scatter(board)
    assert "latency\\|x" in board_files.to_markdown([board])
    assert "1\\_0" in board_files.to_latex([board])
    assert "s \\& s" not in board_files.to_latex([board])
