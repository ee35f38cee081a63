"""What a large report leaves out of its page, and that it says so; what it leaves out of figures and pictures shows
nothing.
"""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from synthetic_run import make_result, metric

from arbench.report import everything, page, size
from arbench.report.curves import sweeps
from arbench.report.figures import Drawing
from arbench.report.folders import Entry, RunFolder
from arbench.report.pictures import encode
from arbench.report.tables import Table, make_table
from arbench.spec.identity import identity
from arbench.spec.result import Result
from arbench.spec.sampling import Sampling


def swept(temperatures: int, top_k: int, numbers: int = 4) -> list[Result]:
    """A cell for each pair; the best top-k is the last."""
    found = []
    for index in range(temperatures * top_k):
        sampling = Sampling(temperature=0.5 + 0.01 * (index // top_k), top_k=1 + index % top_k)
        values = [metric(f"m{n}", 100.0 - index % top_k, convention="c", how="simulated") for n in range(numbers)]
        own = identity(sampling.plain(), "set")
        found.append(
            make_result(
                "raster/a", "generator", "raster", "generate", settings_id=own, sampling=sampling,
                result_id=identity([own], "res"), metrics=tuple(values),
            )
        )  # fmt: skip
    return found


def entries(results: list[Result]) -> list[Entry]:
    return [Entry(result, Path(), "run") for result in results]


def table_of(results: list[Result]) -> Table:
    table = make_table(entries(results), (), "generator")
    assert table is not None
    return table


def test_a_large_table_keeps_all_rows_as_long_as_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(swept(4, 5))
    assert size.fitted(table) == (table, "")
    monkeypatch.setattr(size, "COLUMNS", 2)
    for places, shape, words in ((60, (20, 3), "3 of 4 columns"), (30, (15, 2), "15 of 20 rows and 2 of 4 columns")):
        monkeypatch.setattr(size, "PLACES", places)
        few, told = size.fitted(table)
        assert (len(few.rows), len(few.columns)) == shape
        assert {len(row.places) for row in few.rows} == {shape[1]}
        assert told.startswith(f"{words} are on this page")
        assert "table.parquet" in told
        assert [row.settings_id for row in few.rows] == [row.settings_id for row in table.rows][: shape[0]]


def test_curves_that_are_drawn_are_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = next(each for each in sweeps(swept(4, 5)) if each.field == "temperature")
    assert size.fewer_curves(sweep, 1000, 4) == (sweep, "")
    monkeypatch.setattr(size, "CURVES", 1)
    few, told = size.fewer_curves(sweep, 2 * 4 * 4, 4)
    assert sweep.columns[0].direction == "lower"
    assert [curve.rest for curve in few.curves] == ["top-k 4", "top-k 5"]
    assert told.startswith("2 of 5 curves are drawn")


def test_what_is_too_long_for_the_page_is_named_there(monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(Path(), {"run_id": "run", "suite": {"suite": "s"}}, tuple(entries(swept(4, 3))), (), None)
    whole = page.render([run])
    assert "to keep this page small" not in whole
    assert whole.count('class="raw"') == 12
    assert 'title="m0 (c): ' in whole  # what all numbers of a column say stands in its heading, once
    monkeypatch.setattr(size, "PAGE", len(whole.encode()) - 9000)
    monkeypatch.setattr(size, "EXPORT", 800)
    small = page.render([run])
    assert len(small.encode()) < size.PAGE + 1000
    shown = small.count('class="raw"')
    assert 0 < shown < 12
    assert f"The first {shown} of 12, to keep this page small; each is cells/RESULT_ID/result.json" in small
    assert "Too long for this page: CSV, 0.0 MB: read table.parquet" in small
    monkeypatch.setattr(everything, "METRIC_ROWS", 5)
    assert "The first 5, to keep this page small; all 48 are in results.parquet" in page.render([run])


def test_a_figure_loses_what_does_not_show() -> None:
    figure = Figure(figsize=(2, 2))
    axes = figure.subplots()
    (dot,) = axes.plot([0.123456789], [1 / 3], "o")
    dot.set_gid("dot-1_2")
    text = Drawing(figure, "label", {"dot-1_2": "here"}).svg()
    assert "<title>here</title>" in text
    assert not re.search(r"\d\.\d{3}", re.sub(r"<text.*?</text>|style=\"[^\"]*\"", "", text))
    assert not re.search(r'<g id="(?!dot)', text)
    assert "DejaVu" not in text
    assert re.search(r">0\.\d+</text>", text)  # the ticks keep their digits


@pytest.mark.parametrize("kind", ["flat", "noise", "grey"])
def test_small_pictures_keep_every_pixel(kind: str) -> None:
    rng = np.random.default_rng(0)
    image = np.full((3, 32, 32), 7, np.uint8) if kind == "flat" else rng.integers(0, 256, (3, 32, 32), np.uint8)
    image = np.repeat(image[:1], 3, 0) if kind == "grey" else image
    data, _ = encode(image, 16, 10)
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(base64.b64encode(data)))).convert("RGB"))
    assert (back.transpose(2, 0, 1) == image).all()


def test_a_table_is_counted_once_however_many_rows_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, counts = [], Table.counts.fget
    assert counts is not None
    monkeypatch.setattr(Table, "counts", property(lambda self: counted.append(self.kind) or counts(self)))
    page.render([RunFolder(Path(), {"run_id": "run", "suite": {"suite": "s"}}, tuple(entries(swept(3, 3))), (), None)])
    assert counted == ["generator"]
