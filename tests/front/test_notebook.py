"""The notebook of the documentation, run by a kernel of its own."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def notebook():
    found = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(found)
    return found


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_short_and_has_no_outputs(notebook):
    lines = [line for cell in code(notebook) for line in cell.source.splitlines() if line.strip()]
    assert len(lines) < 20
    assert not any(cell.outputs or cell.execution_count for cell in code(notebook))


def test_it_loads_samples_shows_scores_and_compares(notebook, here, monkeypatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(here / "jupyter"))  # not a kernel of the user's own
    monkeypatch.setenv("IPYTHONDIR", str(here / "ipython"))
    NotebookClient(notebook, kernel_name="python3", timeout=600, resources={"metadata": {"path": str(here)}}).execute()
    shown = [output.data for cell in code(notebook) for output in cell.outputs if "data" in output]
    pages = ["".join(data.get("text/html", "")) for data in shown]
    model, images, score, value, comparison, frame = pages
    assert "10 classes" in model
    assert images.count("<img") == 40
    assert "image/png" in shown[1]
    assert "neighbour-agreement" in score
    assert "Interval(low=" in shown[3]["text/plain"]
    assert value == ""
    assert comparison.count("<tr>") == 4
    assert "raster/llamagen-mini" in frame
