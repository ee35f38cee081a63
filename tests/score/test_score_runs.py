"""One engine: a suite reports the field's numbers, and `arbench score` of its run the same ones to the last digit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from PIL import Image

from arbench.data.readers.mnist import mnist5k
from tests import forked

COUNT, SUBSET, MINI = 32, 24, "next_scale/var-mini"
"""As many samples and references as torch-fidelity needs for full batches of 16."""
CONVENTIONS = "adm,torch-fidelity-2048,offline"
FIELD = ("fid", "sfid", "is", "kid", "precision", "recall")

Numbers = dict[tuple[str, str], dict[str, Any]]


class Workplace:
    """A folder with reference images, in which commands run as a user runs them."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.folder, self.weights = folder, weights
        source = mnist5k("train")
        for index in range(COUNT):
            place = folder / "reference"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(source.load([index])[0].transpose(1, 2, 0)).save(place / f"{index:04d}.png")

    def run(self, *words: object, code: int = 0) -> str:
        environment = {**os.environ, "ARBENCH_WEIGHTS": str(self.folder / "none"), "OMP_NUM_THREADS": "1"}
        environment.pop("ARBENCH_CACHE", None)
        done = forked.arbench(*words, cwd=self.folder, env={**environment, "HOME": str(self.folder / "home")})
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def score(self, *words: object) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run("score", *words, "--json"))
        return document


def numbers(results: list[dict[str, Any]]) -> Numbers:
    return {(m["convention"], m["name"]): m for result in results for m in result["metrics"]}


def results(run: Path, task: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in run.glob("cells/*/result.json")]
    return [result for result in found if result["task"] == task]


@pytest.fixture(scope="module")
def place(tmp_path_factory, inception_file) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("engine"), inception_file)


@pytest.fixture(scope="module")
def run(place) -> Path:
    """One suite on a mini: quality under three conventions, speed and memory."""
    (place.folder / "suite.yaml").write_text(
        f"suite: field\nadapters: [{MINI}]\ntasks:\n"
        f"  - generate: {{n: {COUNT}, reference: reference, conventions: [{CONVENTIONS}], kid_subset_size: {SUBSET}}}\n"
        "  - speed: {batches: [1], min_calls: 3, min_seconds: 0.1, max_seconds: 1}\n"
        "  - memory: {batches: [1]}\n"
    )
    words = ("--weights", f"inception={place.weights}", "--out", "run", "--track", "off", "--workers", 1)
    place.run("run", "suite.yaml", *words)
    return place.folder / "run"


def test_the_fields_numbers_stand_beside_speed_and_memory_under_one_settings_id(run):
    tidy = pandas.read_parquet(run / "results.parquet")
    assert set(tidy["outcome"]) == {"ok"}
    assert tidy["settings_id"].nunique() == 1
    found = {(row.convention, row.metric) for row in tidy.itertuples() if pandas.notna(row.value)}
    assert {("adm", name) for name in FIELD if name != "kid"} <= found
    assert ("torch-fidelity-2048", "kid") in found
    assert {("arbench", "latency"), ("arbench", "peak-memory")} <= found
    wide = pandas.read_parquet(run / "table.parquet")
    assert len(wide) == 1
    row = wide.iloc[0]
    for name in ("adm/fid", "adm/sfid", "adm/is", "adm/precision", "adm/recall", "torch-fidelity-2048/kid"):
        assert np.isfinite(row[name]), name
    for name in ("latency", "peak-memory"):
        found = [each for each in wide.columns if each.startswith(f"{name}[") and each.endswith("]")]
        (column,) = [each for each in found if "operation=draw" not in each]  # that is without the decoder
        assert row[column] > 0


def test_the_report_has_them_in_one_row(run):
    page = (run / "report.html").read_text()
    assert page.count('<tr data-complete="') == 1
    for name in ("fid", "sfid", "kid", "latency", "peak-memory"):
        assert f">{name}" in page.replace("<wbr>", ""), name


def test_a_run_is_scored_again_to_the_last_digit(place, run):
    (cell,) = results(run, "generate")
    own = ("--convention", "torch-fidelity-2048,offline")
    again = place.score("run", *own, "--weights", f"inception={place.weights}", "--out", "again")
    assert (again["settings_id"], again["adapter"]) == (cell["settings_id"], cell["adapter"])
    before, after = numbers([cell]), numbers([again])
    assert after.keys() == {key for key in before if key[0] in ("torch-fidelity-2048", "offline")}
    for key, metric in after.items():
        for field in ("value", "interval", "n", "flags", "reference", "extras", "reason"):
            assert metric[field] == before[key][field], (key, field)


def test_more_conventions_later_take_the_images_and_no_sampling(place, run):
    own = ("-c", "clean-fid", "--metric", "kid", "--metric", "clip-fid")  # the root of FID takes long
    later = numbers([place.score(f"run:{MINI}", *own, "--weights", f"inception={place.weights}")])
    assert later["clean-fid", "kid"]["value"] is not None
    assert "arbench weights fetch clip-vitb32" in later["clean-fid", "clip-fid"]["reason"]


def test_shards_of_a_run_are_of_one_cell_and_of_features_that_are_not_there(place, run):
    assert "--shard would change nothing" in place.run("score", "run", "--shard", "0/2", "--out", "part", code=2)
    words = ("--task", "generate", "--set", "generate.n=16", "--set", "generate.conventions=[offline]")
    words += ("--set", "generate.reference=reference", "--track", "off", "--out", "two")
    place.run("run", "quickstart", "--adapter", MINI, "--adapter", "raster/llamagen-mini", *words)
    assert "two:CELL" in place.run("score", "two", "--shard", "0/2", "--out", "part", code=2)


def test_exported_images_give_torch_fidelity_the_same_numbers(place, run):
    place.run("export", "run", "--images", "exported")
    assert len(list((place.folder / "exported").glob("*.png"))) == COUNT
    command = [str(Path(sys.executable).with_name("fidelity")), "--input1", "exported", "--input2", "reference"]
    command += ["--kid", "--isc", "--kid-subset-size", str(SUBSET), "--cpu", "--json"]
    command += ["--feature-extractor", "inception-v3-compat"]
    command += ["--feature-extractor-weights-path", str(place.weights), "--no-cache"]
    done = subprocess.run(command, cwd=place.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs, ours = json.loads(done.stdout), numbers(results(run, "generate"))
    names = {"is": "inception_score_mean", "kid": "kernel_inception_distance_mean"}
    for name, their in names.items():
        assert ours["torch-fidelity-2048", name]["value"] == pytest.approx(theirs[their], rel=1e-6), name


@pytest.mark.parametrize(
    ("place_of_images", "says", "code"), [("file", "file is not a folder", 2), ("file/below", "cannot write images", 3)]
)
def test_images_do_not_go_where_a_file_is(place, run, place_of_images, says, code):
    (place.folder / "file").touch()
    assert says in place.run("export", "run", "--images", place_of_images, code=code)


def test_the_npz_is_what_adms_evaluator_reads(place, run):
    place.run("export", "run", "--npz", "samples.npz")
    with np.load(place.folder / "samples.npz") as archive:
        assert archive["arr_0"].shape == (COUNT, 32, 32, 3)
        assert archive["arr_0"].dtype == np.uint8
        assert archive["arr_1"].tolist() == [index % 10 for index in range(COUNT)]
    ours = numbers(results(run, "generate"))
    scored = numbers([place.score("samples.npz", "-r", "reference", "-c", "offline", "--metric", "frechet")])
    assert scored["offline", "frechet"]["value"] == pytest.approx(ours["offline", "frechet"]["value"], rel=1e-9)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("run/cells", "is in the folder of a run"),
        ("run:next_scale/var-minn", "did you mean next_scale/var-mini"),
        ("run/nothing", "no file or folder"),
    ],
)
def test_what_is_in_a_run_but_no_samples_is_refused(place, run, source, says):
    assert says in place.run("score", source, "-r", "reference", code=2)


def test_images_that_were_not_kept_are_named_with_the_option_that_keeps_them(place):
    words = ("--task", "generate", "--set", "generate.n=130", "--set", "generate.show=4", "--track", "off")
    words += ("--set", "generate.conventions=[offline]", "--set", "settings.keep_images=0", "--out", "lean")
    place.run("run", "suite.yaml", *words)
    lean = numbers([place.score("lean", "--metric", "frechet,kid")])
    assert (
        lean["offline", "frechet"]["value"]
        == numbers(results(place.folder / "lean", "generate"))["offline", "frechet"]["value"]
    )
    said = place.run("score", "lean", "-c", "pytorch-fid", "--weights", f"inception={place.weights}", code=2)
    assert "64 of its 130 samples" in said
    assert "--keep-images" in said
    assert "--keep-images" in place.run("export", "lean", "--images", "none", code=2)


def test_a_unit_that_is_not_what_the_run_wrote_is_never_scored(place, run):
    """The vectors of another unit, as whole as they may be."""
    shutil.copytree(run, place.folder / "other")
    (unit,) = (place.folder / "other").glob("cells/*/units/000000-000032.npz")
    with np.load(unit) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(unit, **{name: array + 1 if name.startswith("features:") else array for name, array in arrays.items()})
    for words in (("score", "other"), ("export", "other", "--images", "none")):
        said = place.run(*words, code=2)
        assert "is not what the run wrote" in said
        assert "arbench verify other" in said
