"""Pictures in rows: what all models share once, then each model's own, the same ids for all; and columns of edits."""

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

from arbench import registry
from arbench.gallery import Gallery
from arbench.report.class_words import class_words
from arbench.report.folders import Entry, read_runs
from arbench.report.page import write_report
from arbench.report.pictures import galleries
from arbench.report.tables import make_table
from arbench.spec.result import Result

MASK = np.zeros((28, 28), dtype=np.bool_)
MASK[7:21, 7:21] = True
MASKED = (214, 120, 44)
LEAD = "The masked part of each image is drawn anew."


def edited_images(ids: np.ndarray, seed: int) -> np.ndarray:
    return np.where(MASK, digits(ids, seed), originals(ids))


def originals(ids: np.ndarray) -> np.ndarray:
    """The same image for an id, whatever the other ids."""
    return digits(np.arange(40), 0)[ids]


def add_edits(folder: Path, name: str, ids: range, seed: int = 1, **parameters: Any) -> Result:
    """An `edit` cell of a generator in a run folder."""
    task = {"data": "mnist5k/heldout", "n": 200, "mask": "centre", "condition": "same"} | parameters
    result = make_result(
        name, "generator", name.partition("/")[0], "edit",
        parameters=task,
        metrics=(
            metric("psnr-outside", 20.0, 1.0, direction="higher", unit="dB"),
            metric("class-agreement", 0.9, 0.01, direction="higher"),
        ),
        artifacts={"pictures": "pictures.npz"},
    )  # fmt: skip
    numbers = np.array(ids)
    before, classes = originals(numbers), numbers % 10
    asked = (numbers + (task["condition"] == "next")) % 10
    masked = np.where(MASK, np.array(MASKED, dtype=np.uint8)[:, None, None], before)
    gallery = Gallery(
        f"{task['mask']} redrawn, {task['condition']} class", "rows", LEAD, numbers, np.stack([classes, asked, asked]),
        ("original", "mask", ""), (True, True, False), np.stack([before, masked, edited_images(numbers, seed)]),
    )  # fmt: skip
    write_cell(folder, result, {"pictures.npz": gallery.pack()})
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
    section = html.partition('id="pictures"')[2].partition("</section>")[0]
    return dict(re.findall(r"<h3>(.*?)</h3>.*?(<table.*?</table>)", section, flags=re.DOTALL))


def picture(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as opened:
        return np.asarray(opened.convert("RGB"))


VAR, LLAMA = "next_scale/var-mini", "raster/llamagen-mini"


def test_rows_are_original_mask_and_each_model(page_of: Callable[..., str], tmp_path: Path) -> None:
    html = page_of({"name": VAR, "ids": range(12), "seed": 5}, {"name": LLAMA, "ids": range(3, 30), "seed": 6})
    ((title, table),) = tables(html).items()
    assert title == "centre redrawn, same class"
    assert html.count(LEAD) == 1
    rows = re.findall(r'<th scope="row">(.*?)</th>', table)
    assert rows[:2] == ["original", "mask"]
    assert sorted(rows[2:]) == ["llamagen-<wbr>mini", "var-<wbr>mini"]
    common = list(range(3, 12))  # ids that both have
    assert re.findall(r'<th scope="col">#(\d+)', table) == [str(i) for i in common]
    shown = {image["alt"]: image["src"] for image in read(tmp_path / "report.html").all("img")}
    for number in common:
        expected = edited_images(np.array(range(12)), 5)[number].transpose(1, 2, 0)
        np.testing.assert_array_equal(picture(shown[f"var-mini, image {number}, label {number % 10}"]), expected)
        masked = picture(shown[f"mask, image {number}, label {number % 10}"])
        assert (masked[MASK] == MASKED).all()
        original = originals(np.array([number]))[0].transpose(1, 2, 0)
        np.testing.assert_array_equal(masked[~MASK], original[~MASK])
    assert '<a href="#pictures">Pictures</a>' in html


def test_another_class_is_shown_with_an_arrow_and_another_mask_is_another_table(page_of: Callable[..., str]) -> None:
    html = page_of(
        {"name": VAR, "ids": range(4), "condition": "next"},
        {"name": VAR, "ids": range(4), "mask": "border"},
        {"name": VAR, "ids": range(4), "mask": "left"},
    )
    same, following = ["0", "1", "2", "3"], ["0 → 1", "1 → 2", "2 → 3", "3 → 4"]
    assert {title: re.findall(r"<b>(.*?)</b>", table) for title, table in tables(html).items()} == {
        "centre redrawn, next class": following,
        "border redrawn, same class": same,
        "left redrawn, same class": same,
    }


def test_rows_with_a_name_of_their_own_come_below_their_model(new_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = new_run(generators=(), tokenizers=("tokenizers/llamagen-mini", "tokenizers/var-mini"), missing=False)
    html = write_report([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    ((title, table),) = tables(html).items()
    assert title == "Reconstructions of mnist5k/heldout"
    assert re.findall(r'<tr class="(.*?)"><th scope="row">(.*?)</th>', table) == [
        ("aside last", "original"),
        ("model", "llamagen-<wbr>mini"),
        ("aside last", "|difference| × 4"),
        ("model", "var-<wbr>mini"),
        ("aside last", "|difference| × 4"),
    ]
    assert "|difference| × 4 of var-mini, image 3" in html
    assert "→" not in table  # without labels


def test_without_pictures_there_is_no_section(page_of: Callable[..., str]) -> None:
    html = page_of()
    assert 'id="pictures"' not in html
    assert "#pictures" not in html


def test_the_table_has_the_agreement_of_each_edit(tmp_path: Path) -> None:
    results = [add_edits(tmp_path, VAR, range(2)), add_edits(tmp_path, VAR, range(2), condition="next")]
    entries = [Entry(result, tmp_path, "run") for result in results]
    table = make_table(entries, (), "generator")
    assert table is not None
    assert [(column.group, column.name, column.note) for column in table.columns if column.shown] == [
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


def test_samples_of_the_same_prompts_stand_together_each_over_its_prompt(new_run, tmp_path: Path) -> None:
    folder = new_run(generators=(), tokenizers=())
    ids = np.arange(4)
    for name, words in ((VAR, "a cat"), (LLAMA, "a cat"), ("hybrid/hart", "a dog")):
        prompts = tuple(f"{words}, number {number}" for number in ids)
        gallery = Gallery(
            "Samples of prompts", "sheet", "", ids, np.full((1, 4), -1), ("",), (False,), digits(ids, 0)[None], prompts
        )
        result = make_result(
            name, "generator", name.partition("/")[0], "generate",
            parameters={"prompts": f"{words}.txt"}, artifacts={"pictures": "pictures.npz"},
        )  # fmt: skip
        write_cell(folder, result, {"pictures.npz": gallery.pack()})
    html = write_report([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    section = html.partition('id="pictures"')[2].partition("</section>")[0]
    parts = section.split("<h3>Samples of prompts</h3>")[1:]
    sheets = {words: part for part in parts for words in ("a cat", "a dog") if words in part}
    assert {words: part.count('<figure class="sheet">') for words, part in sheets.items()} == {"a cat": 2, "a dog": 1}
    for words, part in sheets.items():
        assert f'title="{words}, number 3"' in part
        assert f'<span class="prompt">{words}, number 0</span>' in part


def test_the_worst_keep_their_order_and_classes_their_names(new_run: Callable[..., Path]) -> None:
    name = "raster/llamagen-b-256"  # of 1,000 classes of ImageNet
    ids, labels = np.array([7, 3, 5]), np.array([[0, 1, 2]])
    worst = Gallery("Worst", "rows", "Worst first.", ids, labels, ("",), (False,), digits(ids, 0)[None])
    folder = new_run(generators=[], tokenizers=[])
    result = make_result(name, "generator", "raster", "reconstruct", artifacts={"worst": "worst.npz"})
    write_cell(folder, result, {"worst.npz": worst.pack()})
    (shown,) = galleries([Entry(result, folder / "cells" / result.result_id, "run")], registry.cards())
    assert shown.ordered
    assert [(each.id, each.word) for each in shown.strips[0].samples] == [
        (7, "tench"), (3, "goldfish"), (5, "great white shark"),
    ]  # fmt: skip
    page = write_report([folder], folder / "report.html").read_text()
    assert "3 pictures; above each" in page
    assert "image 7, label 0 tench" in page
    assert shown.title == "Worst by llamagen-b-256"
    assert list(shown.labels) == [("tench",), ("goldfish",), ("great white shark",)]
    assert class_words(registry.cards()["raster/llamagen-mini"]) == ()


def test_what_has_no_worst_says_why(new_run: Callable[..., Path]) -> None:
    folder = new_run(tokenizers=[])
    empty = Gallery(
        "Worst samples", "rows", "only statistics are known", np.zeros(0, int), np.zeros((1, 0), int), ("",), (False,),
        np.zeros((1, 0, 3, 1, 1), np.uint8),
    )  # fmt: skip
    result = make_result("raster/other", "generator", "raster", "generate", artifacts={"worst": "worst.npz"})
    write_cell(folder, result, {"worst.npz": empty.pack()})
    page = write_report([folder], folder / "report.html").read_text()
    assert "No worst samples by other: only statistics are known." in page


def drawn(name: str, count: int = 8, seed: int = 3, **parameters: Any) -> tuple[Result, dict[str, bytes]]:
    """A `generate` cell with its pictures, the worst among them; all have the same settings."""
    result = make_result(
        name, "generator", name.partition("/")[0], "generate",
        parameters={"conventions": ["offline"], "n": count, **parameters},
        metrics=(metric("frechet", 20.0, 1.0),),
        artifacts={"pictures": "pictures.npz", "worst": "worst.npz"},
    )  # fmt: skip
    ids = np.arange(count)
    pictures, worst = (
        Gallery(title, "sheet", "", ids, ids[None] % 10, ("",), (False,), digits(ids, seed)[None]).pack()
        for title in ("Samples", "Worst samples")
    )
    return result, {"pictures.npz": pictures, "worst.npz": worst}


def test_pictures_of_two_tasks_of_a_model_say_which_they_are_of(new_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = new_run(generators=(), tokenizers=())
    for seed, reference, batch in ((3, "mnist5k/heldout", 8), (4, "mnist5k/train", 16)):
        write_cell(folder, *drawn(VAR, seed=seed, reference=reference, batch=batch))
    write_cell(folder, *drawn(LLAMA, reference="mnist5k/train", batch=8))
    html = write_report([folder], tmp_path / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    section = html.partition('id="pictures"')[2].partition("</section>")[0]
    titles = re.findall(r"<h3>(.*?)</h3>", section)
    for reference in ("mnist5k/heldout", "mnist5k/train"):
        assert f"var-mini, reference {reference}, image 3" in section
        assert f"Worst samples by var-mini, reference {reference}" in titles
    assert "Worst samples by llamagen-mini" in titles
    assert "llamagen-mini, image 3" in section


def test_pictures_that_tasks_of_a_model_share_are_shown_once_named_for_all_of_them(
    new_run: Callable[..., Path],
) -> None:
    folder = new_run(generators=(), tokenizers=())
    cells = [
        drawn(VAR, reference="mnist5k/heldout"),
        drawn(VAR, reference="mnist5k/train"),
        drawn(VAR, seed=4, reference="own"),
        drawn(LLAMA, reference="mnist5k/train"),
    ]
    for cell in cells:
        write_cell(folder, *cell)
    sheet, *worst = galleries(read_runs([folder])[0].entries, {})
    assert len(sheet.strips) == 3
    assert {tuple(sorted(strip.name.replace(" and", ",").split(", "))) for strip in sheet.strips} == {
        ("reference mnist5k/heldout", "reference mnist5k/train", "var-mini"),
        ("reference own", "var-mini"),
        ("llamagen-mini",),
    }
    assert sorted(shown.title for shown in worst) == [
        "Worst samples by llamagen-mini",
        "Worst samples by var-mini, reference mnist5k/heldout",
        "Worst samples by var-mini, reference mnist5k/train",
        "Worst samples by var-mini, reference own",
    ]


def test_tasks_of_other_numbers_of_samples_share_the_pictures_that_both_have(new_run: Callable[..., Path]) -> None:
    folder = new_run(generators=(), tokenizers=())
    for count in (12, 8):
        write_cell(folder, *drawn(VAR, count))
    sheet = galleries(read_runs([folder])[0].entries, {})[0]
    assert [len(strip.samples) for strip in sheet.strips] == [8]
    assert sheet.strips[0].name in ("var-mini, n 12 and n 8", "var-mini, n 8 and n 12")
