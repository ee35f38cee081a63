"""The report as a file: complete, self-contained, safe, and honest about what is missing."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from synthetic_run import (
    GENERATORS,
    HELDOUT,
    SMALL,
    TOKENIZERS,
    make_result,
    metric,
    samples_gallery,
    write_cell,
)

from arbench.cli.report import report
from arbench.errors import DamagedFile, InputError, StoreError
from arbench.gallery import Gallery
from arbench.images import pack
from arbench.report.page import write_report
from arbench.spec.flags import FLAGS

LINKS = {
    "src",
    "href",
    "xlink:href",
    "srcset",
    "action",
    "formaction",
    "poster",
    "data",
    "background",
    "ping",
    "manifest",
}
LIMIT = 5_000_000


class Page(HTMLParser):
    """Start tags with their attributes, and the text of the page outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._skip = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._skip = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._skip = False

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_elsewhere(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    for tag, attributes in Page(html).tags:
        for name in LINKS & set(attributes):
            assert attributes[name].startswith(("data:", "#")), (tag, name, attributes[name][:80])
    assert re.findall(r"@import|\burl\((?!#)[^)]*", html) == []
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", html))
    names_of_xml = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert all(address in names_of_xml or address in Page(html).text for address in addresses)
    assert page.stat().st_size < LIMIT


def test_every_picture_decodes(page: Path) -> None:
    images = read(page).all("img")
    assert len(images) == len(GENERATORS) * 40 + (1 + 2 * len(TOKENIZERS)) * 16
    for image in images:
        kind, data = re.fullmatch(r"data:image/(png|webp);base64,(.+)", image["src"]).groups()  # type: ignore[union-attr]
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
            picture.load()
            assert (picture.format, picture.size) == (kind.upper(), (28, 28))
        assert image["alt"]


def test_small_pictures_are_lossless(page: Path, run_folder: Path) -> None:
    results = [json.loads(path.read_text()) for path in run_folder.glob("cells/*/result.json")]
    mine = next(r for r in results if r["adapter"] == "next_scale/var-mini" and r["task"] == "generate")
    gallery = Gallery.read(run_folder / "cells" / mine["result_id"] / "pictures.npz")
    expected = gallery.images[0, 13].transpose(1, 2, 0)
    image = next(image for image in read(page).all("img") if image["alt"] == "var-mini, image 13, label 3")
    with Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) as picture:
        assert (np.asarray(picture.convert("RGB")) == expected).all()


def test_the_head_tells_what_ran(page: Path) -> None:
    text = " ".join(read(page).text.split())
    for expected in (
        "Two families on MNIST-5k",
        "suite quickstart version 1",
        "17 ok",
        "1 oom",
        "1 not run",
        "of 19 cells",
        "cpu: 2 threads of an example processor",
        "speed random_order/maskgit-mini: batch 16 needs 3.1 GB, 2.0 GB are free",
        "arbench run quickstart --set generate.n=1000",
        "2 min 00 s",  # two sessions, the five hours between them left out
    ):
        assert expected in text


def test_a_table_of_generators_and_one_of_tokenizers(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    for kind, adapters in (("generator", GENERATORS), ("tokenizer", TOKENIZERS)):
        table = html[html.index(f'id="table-{kind}"') :].split("</table>")[0]
        names = re.findall(r'data-name="(\S+)', table)
        assert sorted(names) == sorted(adapters)
    assert 'title="oom: batch 16 needs 3.1 GB, 2.0 GB are free"' in html
    assert 'title="fewer samples than a subset"' in html
    assert "9.16 – 10.26" in html
    assert "small n" in Page(html).text
    text = " ".join(Page(html).text.split())
    assert "Not measured fid (adm), is (adm): no weights of inception: arbench weights fetch inception" in text


def test_csv_link_holds_the_table(page: Path) -> None:
    link = next(a for a in read(page).all("a") if a.get("download") == "arbench-generators.csv")
    lines = unquote(link["href"].removeprefix("data:text/csv;charset=utf-8,")).splitlines()
    assert len(lines) == 1 + len(GENERATORS)
    assert lines[1].startswith("next_scale/var-mini,set-")
    assert "density (offline) ↑," in lines[0]  # hidden in the page, unless asked for
    assert "density" not in next(
        a for a in re.findall(r'<textarea id="md-generator".*?</textarea>', page.read_text(), re.S)
    )


def test_figures_are_inline_and_follow_the_theme(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    drawings = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    labels = [re.search(r'aria-label="([^"]*)"', drawing).group(1) for drawing in drawings]  # type: ignore[union-attr]
    assert labels == [
        "frechet (offline), lower is better against time per image",
        "Throughput, memory, responses and distance from the limit",
        "Phases of sample",
        "Time of each autoregressive step",
        "psnr (offline-pairs) [dB], higher is better against time per image",
        "Throughput, memory, responses and distance from the limit",
        "Phases of encode",
        "Phases of decode",
    ]
    for drawing in drawings:
        assert "var(--ink)" in drawing
        assert not re.search(r"#(000000|ffffff|010203|040506|070809|fdfcfb)", drawing)
    assert "var-mini, batch 16: frechet (offline), lower is better 9.71, 11.69 ms per image" in drawings[0]
    assert "maskgit-mini" not in drawings[0]  # no speed, no point


def test_names_and_reasons_are_text_not_html(new_run: Callable[..., Path]) -> None:
    folder = new_run()
    evil = '<script>alert("x")</script> $\\frac{1}{2}$ </textarea>'
    result = make_result(
        f"raster/{evil}", "generator", "raster", "generate", result_id="res-evil",
        metrics=(
            metric("frechet", 3.0, 0.1, convention=evil, how=evil, at={evil: evil}),
            metric(evil, 1.0, 0.1),
            metric("fid", None, convention=evil, reason=evil),
        ),
    )  # fmt: skip
    write_cell(folder, result)
    write_cell(folder, make_result("raster/b", "generator", "raster", "speed", outcome="error", reason=evil))
    html = write_report([folder], folder / "report.html").read_text(encoding="utf-8")
    assert len(Page(html).all("script")) == 1
    assert "<script>alert" not in html
    assert evil in Page(html).text


def test_several_runs_and_machines_make_one_page(new_run: Callable[..., Path]) -> None:
    first, second = new_run("first"), new_run("second", missing=False)
    for path in second.glob("cells/*/result.json"):
        result = json.loads(path.read_text())
        result["provenance"]["device"] = "cuda:0: an example GPU"
        path.write_text(json.dumps(result))
    page = read(write_report([first, second], first / "both.html"))
    text = " ".join(page.text.split())
    assert "2 runs" in text or text.count("Two families on MNIST-5k") == 2
    assert (
        sum(tag == "tr" and attrs.get("data-name", "").startswith("next_scale/var-mini") for tag, attrs in page.tags)
        == 2
    )
    assert "device cuda:0: an example GPU" in text


def sheet(folder: Path) -> Path:
    """The samples of some generator."""
    return next(path for path in folder.glob("cells/*/pictures.npz") if Gallery.read(path).layout == "sheet")


def test_large_pictures_fit_the_page(new_run: Callable[..., Path]) -> None:
    """Noise is the worst case for an image codec."""
    folder = new_run()
    rng = np.random.default_rng(0)
    ids = np.arange(40)
    for path in folder.glob("cells/*/pictures.npz"):
        if Gallery.read(path).layout == "sheet":
            images = rng.integers(0, 256, (40, 3, 256, 256), dtype=np.uint8)
            path.write_bytes(samples_gallery(ids, images).pack())
    page = write_report([folder], folder / "report.html")
    assert page.stat().st_size < LIMIT
    pictures = [image for image in read(page).all("img") if ", label " in image["alt"]]
    names = [name.rpartition("/")[2] for name in SMALL["generators"]]
    counts = {name: sum(image["alt"].startswith(f"{name},") for image in pictures) for name in names}
    assert len(set(counts.values())) == 1
    assert counts["llamagen-mini"] >= 8


def test_only_ids_that_all_models_have_are_shown(new_run: Callable[..., Path]) -> None:
    folder = new_run()
    path = sheet(folder)
    known = Gallery.read(path)
    path.write_bytes(samples_gallery(known.ids[5:12], known.images[0, 5:12]).pack())
    alts = [image["alt"] for image in read(write_report([folder], folder / "r.html")).all("img")]
    shown = {re.search(r"image (\d+)", alt).group(1) for alt in alts if ", label " in alt}  # type: ignore[union-attr]
    assert shown == {str(number) for number in range(5, 12)}


def test_a_score_of_a_run_makes_one_row_with_it(new_run: Callable[..., Path], tmp_path: Path) -> None:
    """A score's folder has no plan: what is there is all there is."""
    folder, scored = new_run(missing=False), tmp_path / "score"
    results = [json.loads(path.read_text()) for path in folder.glob("cells/*/result.json")]
    own = next(r for r in results if r["adapter"] == "next_scale/var-mini" and r["task"] == "generate")
    result = make_result(
        own["adapter"], "generator", own["family"], "score", result_id="res-score", settings_id=own["settings_id"],
        parameters={"reference": "mnist5k/heldout", "n": 1000, "conventions": ["adm"], "cell": {"task": "generate"}},
        metrics=(metric("fid", 4.321, 0.1, convention="adm", reference=HELDOUT),),
    )  # fmt: skip
    write_cell(scored, result)
    run = {"schema_version": 2, "run_id": "score", "suite": {"suite": "score", "title": "Scores of a run"}, "argv": []}
    (scored / "run.json").write_text(json.dumps(run))
    html = write_report([folder, scored], tmp_path / "both.html").read_text(encoding="utf-8")
    (row,) = re.findall(r'<tr data-complete="\w+" data-name="next_scale/var-mini.*?</tr>', html, re.S)
    shown = " ".join(Page(row).text.split())
    for number in ("4.32", "9.71", "44.1", "400.5"):  # fid of the score; frechet, latency and memory of the run
        assert number in shown
    text = " ".join(Page(html).text.split())
    assert "suite score · run score" in text
    assert "Not measured is (adm): no weights of inception" in text
    alone = read(write_report([scored], tmp_path / "alone.html"))
    assert "1 ok" in " ".join(alone.text.split())


def test_a_run_without_results_has_a_page(new_run: Callable[..., Path]) -> None:
    folder = new_run()
    for path in folder.glob("cells/*/result.json"):
        path.unlink()
    text = " ".join(read(write_report([folder], folder / "report.html")).text.split())
    assert "No cell of this run has a result yet." in text
    assert "10 not run" in text


def test_a_run_whose_cells_all_failed_says_where_it_ran_and_shows_no_empty_table(new_run: Callable[..., Path]) -> None:
    folder = new_run(generators=(), tokenizers=())
    for task in ("generate", "speed"):
        failed = make_result("raster/broken", "generator", "raster", task, outcome="error", reason="it broke")
        write_cell(folder, failed.model_copy(update={"provenance": None, "metrics": ()}))
    path = folder / "run.json"
    planned = {"arbench": "0.2", "plan": {"device": "cpu", "machine": "AMD EPYC, 2 cores", "cells": []}}
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | planned), encoding="utf-8")
    found = read(write_report([folder], folder / "report.html"))
    text = " ".join(found.text.split())
    assert "cpu: AMD EPYC, 2 cores" in text
    assert "arbench 0.2" in text
    assert "it broke" in text
    assert "Nothing was measured of raster/broken: the reasons are at the top of the page." in text
    assert "overlaps no other" not in text
    assert not [table for table in found.all("table") if "main" in table.get("class", "")]


def test_a_failed_cell_among_good_ones_adds_no_column_of_devices(new_run: Callable[..., Path]) -> None:
    folder = new_run(generators=(), tokenizers=())
    good = make_result("raster/good", "generator", "raster", "generate", metrics=(metric("kid", 1.0, 0.1),))
    failed = make_result("raster/broken", "generator", "raster", "generate", outcome="error", reason="it broke")
    write_cell(folder, good)
    write_cell(folder, failed.model_copy(update={"provenance": None, "metrics": ()}))
    html = write_report([folder], folder / "report.html").read_text(encoding="utf-8")
    assert "broken" in html
    assert ">Device</th>" not in html


def test_the_command_writes_into_the_first_folder_and_prints_the_path(
    new_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = new_run()
    assert report([folder], None) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").is_file()


def test_no_torch_and_no_mlflow(run_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from arbench.cli.report import report;"
        f"report([Path({str(run_folder)!r})], Path({str(tmp_path / 'r.html')!r}));"
        "print([name for name in ('torch', 'mlflow', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# ---- damage ----


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        write_report([tmp_path / "nothing"], tmp_path / "r.html")
    with pytest.raises(InputError, match="no run folder"):
        write_report([], tmp_path / "r.html")


def test_a_folder_that_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run\.json"):
        write_report([tmp_path], tmp_path / "r.html")


def damage_run(folder: Path) -> Path:
    (folder / "run.json").write_text('{"run_id": ')
    return folder / "run.json"


def damage_plan(folder: Path) -> Path:
    (folder / "run.json").write_text('{"cells": [{"adapter": "x"}]}')
    return folder / "run.json"


def damage_result(folder: Path) -> Path:
    path = next(folder.glob("cells/*/result.json"))
    path.write_text(path.read_text()[:-40])
    return path


def damage_field(folder: Path) -> Path:
    path = next(folder.glob("cells/*/result.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"outcome": "splendid"}))
    return path


def damage_samples(folder: Path) -> Path:
    path = sheet(folder)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def damage_shape(folder: Path) -> Path:
    path = sheet(folder)
    path.write_bytes(
        pack({"sample_ids": np.arange(3), "labels": np.arange(3), "images": np.zeros((3, 28, 28), np.uint8)})
    )
    return path


def damage_labels(folder: Path) -> Path:
    path = sheet(folder)
    arrays = dict(np.load(path))
    path.write_bytes(pack(arrays | {"labels": np.arange(3)}))
    return path


def damage_latency(folder: Path) -> Path:
    path = next(folder.glob("cells/*/latency.npz"))
    path.write_bytes(pack(dict(np.load(path)) | {"steps": np.zeros(3)}))
    return path


def lose_pictures(folder: Path) -> Path:
    path = sheet(folder)
    path.unlink()
    return path


def escape(folder: Path) -> Path:
    path = sheet(folder)
    (folder / "cells" / "pictures.npz").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(folder / "cells" / "pictures.npz")
    return path


@pytest.mark.parametrize(
    "damage",
    [
        damage_run,
        damage_plan,
        damage_result,
        damage_field,
        damage_samples,
        damage_shape,
        damage_labels,
        damage_latency,
        lose_pictures,
        escape,
    ],
)
def test_damage_is_named_and_an_old_page_stays(damage: Callable[[Path], Path], new_run: Callable[..., Path]) -> None:
    folder = new_run()
    output = folder / "report.html"
    output.write_text("the old page")
    path = damage(folder)
    with pytest.raises(DamagedFile) as caught:
        write_report([folder], output)
    assert str(path) in str(caught.value)
    assert output.read_text() == "the old page"
    assert not list(folder.glob(".*.tmp"))


def test_flags_are_explained(new_run: Callable[..., Path]) -> None:
    page = write_report([folder := new_run()], folder / "report.html").read_text()
    assert FLAGS["small_n"] in page
    assert FLAGS["peak_of_process"] in page


def test_a_newer_schema_asks_for_an_upgrade(new_run: Callable[..., Path]) -> None:
    folder = new_run()
    (folder / "run.json").write_text(json.dumps(json.loads((folder / "run.json").read_text()) | {"schema_version": 99}))
    with pytest.raises(DamagedFile, match="newer arbench"):
        write_report([folder], folder / "report.html")


def test_an_output_that_cannot_be_written(new_run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        write_report([new_run()], tmp_path / "file" / "report.html")
