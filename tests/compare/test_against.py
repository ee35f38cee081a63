"""A report with the differences to a baseline: in the cells, in a section, and what it says where there is none."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from arbench.cli.main import main
from arbench.compare import baseline
from arbench.compare.against import against
from arbench.report.folders import read_runs
from arbench.report.page import write_report


@pytest.fixture
def pair(runs: Any, tmp_path: Path) -> tuple[Path, Path, Path]:
    """An accepted run, one with a tenth of other samples that is slower, and the store of baselines."""
    old, new = runs("accepted"), runs("later", changed=0.1, latency=0.12)
    baseline.accept(tmp_path / "store", "main", old, "the first")
    return old, new, tmp_path / "store"


def test_the_page_shows_the_differences(pair: tuple[Path, Path, Path]) -> None:
    old, new, store = pair
    found = against("main", store)(read_runs([new]))
    (model,) = found.models
    by_name = {each.column.name: each for _, each in [*model["lines"], *model["details"]]}
    assert by_name["latency"].verdict == "worse"
    assert by_name["frechet"].paired
    page = write_report([new], new / "report.html", against("main", store)).read_text()
    cell = re.search(r'<span class="change worse" title="([^"]*)">▼ x 1.200 \[[\d., ]+\] <b>worse</b>', page)
    assert cell is not None
    assert "was 100.0 ms" in cell.group(1)
    section = page.split('<section id="baseline">')[1].split("</section>")[0]
    assert "run accepted, accepted" in section
    assert ": the first." in section
    assert "worse" in section
    assert section.count("data:image/png") == 36  # old, new and difference of the 12 samples that differ
    assert "Against the baseline" in page
    by_folder = against(str(old), store)(read_runs([new]))
    assert by_folder.name == "accepted"
    assert by_folder.cells == found.cells


def test_a_baseline_whose_folder_is_gone_still_counts(pair: tuple[Path, Path, Path]) -> None:
    old, new, store = pair
    shutil.rmtree(old)
    found = against("main", store)(read_runs([new]))
    assert "nothing is paired" in found.about
    pairings = {each.paired for _, each in found.models[0]["lines"]}
    assert pairings == {False}
    assert dict(found.counts)["worse"] == 1


def test_the_baseline_itself_and_strangers(pair: tuple[Path, Path, Path], runs: Any) -> None:
    old, _, store = pair
    itself = against("main", store)(read_runs([old]))
    assert (itself.cells, itself.models, itself.alone) == ({}, [], [])
    other = against("main", store)(read_runs([runs("tokens", kind="tokenizer")]))
    assert not other.cells
    assert len(other.alone) == 2


def test_without_one_nothing_is_said_and_an_unknown_one_is_told(pair: tuple[Path, Path, Path], capsys: Any) -> None:
    _, new, store = pair
    assert main(["report", str(new)]) == 0
    page = (new / "report.html").read_text()
    assert 'id="baseline"' not in page
    assert 'class="change' not in page
    assert main(["report", str(new), "--baseline", "mian", "--store", str(store)]) == 2
    assert "did you mean main?" in capsys.readouterr().err
