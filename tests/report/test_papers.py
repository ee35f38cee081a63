"""The report's figures and tables as files for papers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from arbench.cli.main import main
from arbench.report.figures import step_curves
from arbench.report.folders import read_runs
from arbench.report.latex import escaped, to_latex
from arbench.report.tables import make_table


def test_every_figure_is_an_svg_and_a_pdf(new_run: Callable[..., Path], tmp_path: Path) -> None:
    folder, output = new_run(generators=["raster/llamagen-mini"]), tmp_path / "figures"
    assert main(["export", str(folder), "--figures", str(output)]) == 0
    names = {file.stem for file in output.glob("*.svg")}
    assert {"generator-quality-against-speed", "generator-steps", "tokenizer-phases-decode"} <= names
    assert {file.stem for file in output.glob("*.pdf")} == names
    for name in names:
        text = (output / f"{name}.svg").read_text()
        ET.fromstring(text)
        assert "var(--" not in text  # the page's colours mean nothing outside of it
        assert "<text" not in text  # our fonts neither
        content = (output / f"{name}.pdf").read_bytes()
        assert content.startswith(b"%PDF-")
        assert b"/Type3" not in content  # which journals refuse
    assert "#15191e" in (output / "generator-steps.svg").read_text()
    table = re.search(r"begin{tabular}{(l+r+)}", (output / "tokenizer.tex").read_text())
    assert table is not None


def test_a_file_is_the_same_for_the_same_figure() -> None:
    files = [step_curves({1: {"a": np.arange(4.0)}}).file(layout) for layout in ("svg", "pdf") for _ in range(2)]
    assert (files[0], files[2]) == (files[1], files[3])


def test_tables_are_of_booktabs_with_a_cell_for_each_column(run_folder: Path) -> None:
    entries = [entry for run in read_runs([run_folder]) for entry in run.entries]
    table = make_table(entries, [], "generator")
    assert table is not None
    text = to_latex(table, "Generator", "tab:generator")
    assert text.startswith("% \\usepackage{booktabs}\n")
    parts = text.split("\\begin{table*}")[1:]
    assert re.findall(r"\\label{(.*?)}", text) == [f"tab:generator-{name}" for name in ("quality", "speed", "memory")]
    for part in parts:
        columns = re.search(r"\\begin{tabular}{l(r+)}", part)
        assert columns is not None
        body = part.split("\\midrule\n")[1].split("\\bottomrule")[0].strip().splitlines()
        assert len(body) == len(table.rows)
        for line in body:
            assert len(re.findall(r"(?<!\\)&", line)) == len(columns[1])
            assert line.count("{") == line.count("}")
        assert part.count("\\toprule") == part.count("\\midrule") == part.count("\\bottomrule") == 1
    best = next(place.text for row in table.rows for place in row.places if place.mark == "best")
    assert f"\\textbf{{{best}}}" in text
    assert "n = 1,000" in parts[0]
    assert "{[}ms{]}" in parts[1]
    assert not re.search(r"\\\\\s*[\[*]", text)  # arguments of the line break: LaTeX stops, or runs for ever
    assert ".." not in text


def test_what_latex_would_read_is_escaped() -> None:
    assert escaped("a_b & 5 % {x} ~^\\") == r"a\_b \& 5 \% \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert (
        escaped('[a] *b <|> "c" σ ≤ 5 é')
        == r"{[}a{]} {*}b \textless{}\textbar{}\textgreater{} ''c'' $\sigma$ $\leq$ 5 é"
    )


def test_a_run_without_results_has_no_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    assert main(["export", str(tmp_path / "run"), "--figures", str(tmp_path / "figures")]) == 2
    assert "no figure to write" in capsys.readouterr().err
