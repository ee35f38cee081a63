"""Edits in the report: rows of original, mask and each model's edit, the same ids for all, and their column."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from synthetic_run import digits, make_result, metric, write_cell
from test_report_page import read

from arbench.images import pack
from arbench.report.folders import Entry
from arbench.report.page import write_report
from arbench.report.pictures import MASKED
from arbench.report.tables import make_table
from arbench.spec.result import Result

MASK = np.zeros((28, 28), dtype=np.bool_)
MASK[7:21, 7:21] = True


def edited_images(ids: np.ndarray, seed: int) -> np.ndarray:
    return np.where(MASK, digits(ids, seed), digits(ids, 0))


def add_edits(folder: Path, name: str, ids: range, seed: int = 1, **parameters: Any) -> Result:
    """An `edit` cell of a generator in a run folder."""
    task = {"task": "edit", "data": "mnist5k/heldout", "n": 200, "mask": "centre", "condition": "same"} | parameters
    result = make_result(
        name, "generator", name.partition("/")[0], "edit",
        parameters=task,
        metrics=(
            metric("psnr-outside", 20.0, 1.0, direction="higher", unit="dB"),
            metric("class-agreement", 0.9, 0.01, direction="higher"),
        ),
        artifacts={"edits.npz": "edits.npz"},
    )  # fmt: skip
    numbers = np.array(ids)
    arrays = {
        "ids": numbers,
        "classes": numbers % 10,
        "asked": (numbers + (task["condition"] == "next")) % 10,
        "mask": MASK,
        "originals": digits(numbers, 0),
        "edited": edited_images(numbers, seed),
    }
    write_cell(folder, result, {"edits.npz": pack(arrays)})
    return result


@pytest.fixture
def page_of(new_run: Callable[..., Path], tmp_path: Path) -> Callable[..., str]:
    """The page of a run with edits: a keyword set for each."""

    def write(*edits: dict[str, Any]) -> str:
        folder = new_run(generators=(), tokenizers=())  # plots take seconds
        for edit in edits:
            add_edits(folder, **edit)
        return write_report([folder], tmp_path / "report.html").read_text(encoding="utf-8")

    return write


def tables(html: str) -> dict[str, str]:
    """Title -> table."""
    section = html.partition('id="edits"')[2].partition("</section>")[0]
    found = re.findall(r"<h3>(.*?)</h3>.*?(<table.*?</table>)", section, flags=re.DOTALL)
    return {title.replace("&#39;", "'"): table for title, table in found}


def picture(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as opened:
        return np.asarray(opened.convert("RGB"))


VAR, LLAMA = "next_scale/var-mini", "raster/llamagen-mini"


def test_rows_are_original_mask_and_each_model(page_of: Callable[..., str], tmp_path: Path) -> None:
    html = page_of({"name": VAR, "ids": range(12), "seed": 5}, {"name": LLAMA, "ids": range(3, 30), "seed": 6})
    ((title, table),) = tables(html).items()
    assert title == "Inpainting: centre redrawn, the image's own class (mnist5k/heldout)"
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == [
        "original", "mask", "var-<wbr>mini", "llamagen-<wbr>mini",
    ]  # fmt: skip
    common = list(range(3, 12))  # ids that both have
    assert re.findall(r'<th scope="col">#(\d+)', table) == [str(i) for i in common]
    shown = {image["alt"]: image["src"] for image in read(tmp_path / "report.html").all("img")}
    for number in common:
        expected = edited_images(np.array(range(12)), 5)[number].transpose(1, 2, 0)
        np.testing.assert_array_equal(picture(shown[f"var-mini, image {number}, class {number % 10}"]), expected)
        masked = picture(shown[f"mask, image {number}, class {number % 10}"])
        assert (masked[MASK] == MASKED).all()
        original = digits(np.array(range(12)), 0)[number].transpose(1, 2, 0)
        np.testing.assert_array_equal(masked[~MASK], original[~MASK])
    assert '<a href="#edits">Edits</a>' in html


def test_another_class_is_shown_with_an_arrow_and_another_mask_is_another_table(page_of: Callable[..., str]) -> None:
    html = page_of(
        {"name": VAR, "ids": range(4), "condition": "next"},
        {"name": VAR, "ids": range(4), "mask": "border"},
        {"name": VAR, "ids": range(4), "mask": [0, 0, 0.5, 1]},
    )
    same, following = ["0", "1", "2", "3"], ["0 → 1", "1 → 2", "2 → 3", "3 → 4"]
    assert {title: re.findall(r"<b>(.*?)</b>", table) for title, table in tables(html).items()} == {
        "Editing by class: centre redrawn, the next class (mnist5k/heldout)": following,
        "Outpainting: border redrawn, the image's own class (mnist5k/heldout)": same,
        "Inpainting: box 0 0 0.5 1 redrawn, the image's own class (mnist5k/heldout)": same,
    }


def test_without_edits_there_is_no_section(page_of: Callable[..., str]) -> None:
    html = page_of()
    assert 'id="edits"' not in html
    assert "#edits" not in html


def test_the_table_has_the_agreement_of_each_edit(tmp_path: Path) -> None:
    results = [add_edits(tmp_path, VAR, range(2)), add_edits(tmp_path, VAR, range(2), condition="next")]
    entries = [Entry(result, tmp_path, "run") for result in results]
    table = make_table(entries, (), "generator")
    assert table is not None
    assert [(column.group, column.name, column.note) for column in table.columns] == [
        ("Edits", "class-agreement", "condition same"),
        ("Edits", "class-agreement", "condition next"),
    ]


def test_what_was_refused_before_it_started_is_in_the_row_of_the_rest(tmp_path: Path) -> None:
    refused = make_result(LLAMA, "generator", "raster", "edit", outcome="unsupported", reason="no", provenance=None)
    other = add_edits(tmp_path, VAR, range(2))
    good = make_result(LLAMA, "generator", "raster", "generate", metrics=(metric("kid", 1.0, 0.1),), artifacts={})
    table = make_table([Entry(result, tmp_path, "run") for result in (refused, other, good)], (), "generator")
    assert table is not None
    row = next(row for row in table.rows if row.adapter == LLAMA)
    assert len(table.rows) == 2
    assert row.device == good.provenance.device  # type: ignore[union-attr]
    assert {place.outcome for place in row.places} == {"", "unsupported"}
