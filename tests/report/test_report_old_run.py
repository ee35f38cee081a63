"""A run of arbench 0.1, whose results are of schema 1: the report, the tables and the tracker's record read it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_report_page import Page, read

from arbench import artifacts
from arbench.images import pack
from arbench.report.folders import read_runs
from arbench.report.page import write_report
from arbench.report.tables import make_table
from arbench.spec.result import Result
from arbench.table import write_table, write_wide
from arbench.track import record

OLD = Path(__file__).parent / "run-0.1"


@pytest.fixture(scope="module")
def results() -> dict[tuple[str, str], Result]:
    (run,) = read_runs([OLD])
    return {(entry.result.task, entry.result.adapter): entry.result for entry in run.entries}


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report([OLD], tmp_path_factory.mktemp("old") / "report.html").read_text(encoding="utf-8")


def test_its_cells_are_all_there() -> None:
    (run,) = read_runs([OLD])
    assert (len(run.entries), run.missing) == (9, ())
    assert {entry.result.schema_version for entry in run.entries} == {2}


def test_its_numbers_stand_in_the_columns_of_today() -> None:
    (run,) = read_runs([OLD])
    table = make_table(run.entries, (), "generator")
    assert table is not None
    assert [column.words for column in table.columns if column.shown] == [
        "frechet (offline)", "kid (offline)", "precision (offline)", "recall (offline)", "class-agreement (arbench)",
        "latency (batch 1, sample)", "latency (batch 16, sample)",
        "images-per-second (batch 1, sample)", "images-per-second (batch 16, sample)",
        "peak-memory (batch 1)", "peak-memory (batch 16)", "weights-memory",
    ]  # fmt: skip
    mar, var = table.rows
    assert (mar.adapter, var.adapter) == ("continuous/mar-mini", "next_scale/var-mini")
    assert (mar.complete, var.complete) == (True, True)
    assert [place.metric.value for place in var.places[:2] if place.metric] == [42.09006193151757, 0.03325625460535597]
    assert "5 calls; a 90th percentile needs 29" in table.unmeasured[0].reason


def test_its_report_shows_numbers_and_pictures(html: str) -> None:
    text = " ".join(Page(html).text.split())
    for expected in ("42.1", "39.3 – 44.9", "9 ok", "Five families on MNIST-5k", "Reconstructions of mnist5k/heldout"):
        assert expected in text
    alts = [image["alt"] for image in Page(html).all("img")]
    assert sum(alt.startswith(("mar-mini, image", "var-mini, image")) and "label" in alt for alt in alts) == 8
    assert sum(alt.startswith("original, image") for alt in alts) == 16
    assert len(re.findall("<svg", html)) == 8


def test_its_tables(results: dict[tuple[str, str], Result], tmp_path: Path) -> None:
    write_table(tmp_path / "results.parquet", "old", results.values())
    rows = pq.read_table(tmp_path / "results.parquet").to_pylist()
    found = next(row for row in rows if row["metric"] == "latency" and json.loads(row["at"])["batch"] == 16)
    assert json.loads(found["at"]) == {"batch": 16, "operation": "sample"}
    assert found["how"].startswith("median of calls")
    write_wide(tmp_path / "table.parquet", "old", results.values())
    wide = {row["adapter"]: row for row in pq.read_table(tmp_path / "table.parquet").to_pylist()}
    assert len(wide) == 3
    var = wide["next_scale/var-mini"]
    assert var["offline/frechet"] == 42.09006193151757
    assert var["latency[batch=16,operation=sample]"] == 1.2225017780000371
    assert wide["tokenizers/var-mini"]["offline-pairs/psnr"] == 21.680139963604525
    assert wide["tokenizers/var-mini"]["codebook-used[level=3]"] == 0.75390625


def test_its_record_for_the_tracker(results: dict[tuple[str, str], Result]) -> None:
    values = record.metrics(results["generate", "next_scale/var-mini"])
    assert values["generate/offline/frechet"] == 42.09006193151757
    assert values["generate/offline/frechet_lo"] < 42.1 < values["generate/offline/frechet_hi"]
    assert (
        record.metrics(results["speed", "tokenizers/var-mini"])["speed/latency/batch 16 decode"] == 0.2057096730000012
    )
    sheet = artifacts.inside(results["generate", "next_scale/var-mini"], "sheet", OLD / "cells" / "res-72968337311c")
    assert sheet is not None
    assert sheet.is_file()


def test_its_raw_timings_are_rows(results: dict[tuple[str, str], Result]) -> None:
    found = artifacts.latency(results["speed", "tokenizers/var-mini"], OLD / "cells" / "res-cab40fdd8a81")
    assert found is not None
    assert found["batch"].tolist() == [1, 1, 16, 16]
    assert found["operation"].tolist() == ["encode", "decode", "encode", "decode"]
    assert np.nanmedian(found["seconds"], axis=1).tolist() == pytest.approx(
        [record.seconds for record in results["speed", "tokenizers/var-mini"].speed]
    )
    sampled = artifacts.latency(results["speed", "continuous/mar-mini"], OLD / "cells" / "res-8eb189152dd8")
    assert sampled is not None
    assert sampled["steps"].shape == (2, 5, 8)


def test_old_edits_are_rows_too(results: dict[tuple[str, str], Result], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before, edited = (rng.integers(0, 256, (3, 3, 8, 8), dtype=np.uint8) for _ in range(2))
    mask = np.zeros((8, 8), dtype=np.bool_)
    mask[2:4] = True
    (tmp_path / "edits.npz").write_bytes(
        pack(
            {
                "ids": np.arange(3), "classes": np.array([1, 2, 3]), "asked": np.array([2, 3, 4]), "mask": mask,
                "originals": before, "edited": edited,
            }
        )
    )  # fmt: skip
    result = results["generate", "next_scale/var-mini"].model_copy(
        update={
            "task": "edit",
            "parameters": {"data": "mnist5k/heldout", "mask": [0, 0, 0.5, 1], "condition": "next"},
            "artifacts": {"pictures": "edits.npz"},
        }
    )
    gallery = artifacts.pictures(result, tmp_path)
    assert gallery is not None
    assert gallery.title == "Editing by class: box 0 0 0.5 1 redrawn, the next class (mnist5k/heldout)"
    assert gallery.labels.tolist() == [[1, 2, 3], [2, 3, 4], [2, 3, 4]]
    np.testing.assert_array_equal(gallery.images[0], before)
    np.testing.assert_array_equal(gallery.images[2], edited)
    assert (gallery.images[1][..., mask] == np.array([[214], [120], [44]])).all()
    np.testing.assert_array_equal(gallery.images[1][..., ~mask], before[..., ~mask])


def test_an_old_and_a_new_run_make_one_page(run_folder: Path, tmp_path: Path) -> None:
    text = read(write_report([OLD, run_folder], tmp_path / "both.html")).text
    assert "reference mnist5k/heldout 697c4016" in " ".join(text.split())  # the old digests are of another kind
