"""The suites of the papers' tables: what they ask for, what they say is missing, a rehearsal of each on minis."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas
import pytest
from PIL import Image

from arbench import registry
from arbench.data.readers.mnist import mnist5k
from arbench.errors import ConfigError
from arbench.run.plan import Plan, make_plan
from arbench.spec.suite_file import names, read
from arbench.tasks.generate import Generate
from arbench.tasks.reconstruct import Reconstruct
from tests import forked

QUICK = ("batches=[1]", "min_calls=3", "min_seconds=0", "max_seconds=1")


def plan(suite: str, *changes: str) -> Plan:
    return make_plan(read(suite, changes), must_run=False)


def run(folder: Path, *words: object) -> list[dict[str, Any]]:
    """The results of `arbench run`, as a user runs it, without weights of feature networks."""
    environment = {**os.environ, "ARBENCH_WEIGHTS": str(folder / "none"), "OMP_NUM_THREADS": "1"}
    changes = [word for change in QUICK for word in ("--set", change)]
    done = forked.arbench("run", *words, *changes, "--out", "run", "--track", "off", cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(path.read_text()) for path in folder.glob("run/cells/*/result.json")]


def digits(folder: Path, count: int = 20) -> Path:
    """A folder of images as a user has it."""
    folder.mkdir()
    source = mnist5k("train")
    for index in range(count):
        Image.fromarray(source.load([index])[0].transpose(1, 2, 0)).save(folder / f"{index:03d}.png")
    return folder


# ---- what they ask for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suite", "side"), [("imagenet-256", 256), ("imagenet-512", 512)])
def test_imagenet_is_fifty_thousand_samples_fifty_a_class_with_and_without_guidance(suite, side):
    cells = plan(suite).cells
    drawn = [planned.cell for planned in cells if isinstance(planned.cell.task, Generate)]
    for cell in drawn:
        card = registry.card(cell.adapter)
        assert (card.resolution, card.classes, cell.task.n % card.classes) == (side, 1000, 0)
        assert (cell.task.n, cell.task.reference, cell.task.conventions) == (50_000, f"adm:imagenet-{side}", ("adm",))
    for name in {cell.adapter for cell in drawn}:
        own = [cell.sampling for cell in drawn if cell.adapter == name]
        assert own[0] == registry.card(name).native
        guided = registry.card(name).native.guidance.on  # not RQ-Transformer, CCA, Distilled Decoding
        assert [sampling.guidance.on for sampling in own] == ([True, False] if guided else [False])
    assert {planned.cell.task.batches for planned in cells if planned.exclusive} == {(1, 64)}


def test_every_official_class_model_of_the_size_is_in_it():
    for side in (256, 512):
        official = {
            card.name
            for card in registry.cards().values()
            if card.kind == "generator" and card.resolution == side and card.condition == "class"
        }
        assert {planned.cell.adapter for planned in plan(f"imagenet-{side}").cells} == official


def test_reconstruction_states_crop_and_counts():
    cells = [planned.cell.task for planned in plan("reconstruction").cells if not planned.exclusive]
    assert all(isinstance(task, Reconstruct) for task in cells)
    assert {(task.data, task.n, task.crop, task.size) for task in cells} == {
        ("imagenet-val", 50_000, "adm-center-crop-v1", 256),
        ("coco-val", 5_000, "adm-center-crop-v1", 256),
    }


def test_nightly_has_exact_counts_and_needs_nothing():
    cells = plan("nightly").cells
    assert {planned.outcome for planned in cells} == {None}
    assert {planned.cell.task.n for planned in cells if not planned.exclusive} == {500}
    assert {planned.cell.family for planned in cells} >= {
        "raster",
        "random_order",
        "next_scale",
        "continuous",
        "hybrid",
    }


# ---- what is missing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", ["imagenet-256", "imagenet-512", "reconstruction", "text-to-image"])
def test_show_lists_all_that_is_missing(suite, tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path), "ARBENCH_WEIGHTS": str(tmp_path / "none")}
    environment.pop("ARBENCH_REFERENCES", None)
    done = forked.arbench("show", suite, env=environment)
    shown = read(suite).suite
    for name in shown.needs:
        assert f"needs {name}, not given (--set sources.{name}=PATH)" in done.stdout
    for name in (*shown.adapters, *shown.tokenizers):
        assert f"no weights for {name}; the official file is" in done.stdout
    if suite.startswith("imagenet"):
        for name in {registry.card(adapter).tokenizer for adapter in shown.adapters} - {None}:  # pixels have none
            assert f"no weights for {name}; the official file is" in done.stdout
        assert f"the reference adm:{suite} is not here" in done.stdout
        assert f"arbench references fetch adm:{suite}" in done.stdout
    assert "no weights of inception, so these will be null" in done.stdout


def test_what_is_given_for_a_need_takes_its_place(tmp_path):
    folder = digits(tmp_path / "mine")
    found = plan("reconstruction", f"sources.imagenet-val={folder}", "n=20", "size=32", "init=random")
    given = [planned for planned in found.cells if not planned.exclusive and planned.outcome is None]
    assert {planned.cell.task.data for planned in given} == {str(folder)}
    assert given[0].origins["task.data"] == f"--set sources.imagenet-val={folder}"
    assert given[0].origins["task.n"] == "--set n=20"
    lacking = {planned.reason for planned in found.cells if planned.outcome == "error"}
    assert all("no coco-val given" in reason for reason in lacking)


# ---- rehearsals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", ["imagenet-256", "imagenet-512"])
def test_rehearsal_of_imagenet(suite, tmp_path):
    folder = digits(tmp_path / "mine")
    adapter = {"imagenet-256": "next_scale/var-mini", "imagenet-512": "hybrid/hart-mini"}[suite]
    found = run(tmp_path, suite, "--adapter", adapter, "--set", "n=20", "--set", f"reference={folder}")
    assert [result["outcome"] for result in found] == ["ok"] * 6
    assert len({result["settings_id"] for result in found}) == 2
    table = pandas.read_parquet(tmp_path / "run" / "table.parquet")
    assert len(table) == 2
    (fid,) = {
        metric["reason"] for result in found for metric in result["metrics"] if metric["name"] == "fid"
    }  # a number without its weights is null, with the next command
    assert "arbench weights fetch inception" in fid


def test_rehearsal_of_imagenet_with_random_weights(tmp_path):
    folder = digits(tmp_path / "mine")
    words = (
        "--adapter",
        "next_scale/var-mini",
        "--set",
        "n=20",
        "--set",
        f"reference={folder}",
        "--set",
        "init=random",
    )
    found = run(tmp_path, "imagenet-256", *words, "--set", "conventions=[offline]")
    assert [result["outcome"] for result in found] == ["ok"] * 6
    assert all("random_weights" in metric["flags"] for result in found for metric in result["metrics"])
    frechet = [m for result in found for m in result["metrics"] if m["name"] == "frechet"]
    assert len(frechet) == 2
    assert all(metric["value"] > 0 for metric in frechet)


def test_rehearsal_of_reconstruction(tmp_path):
    one, two = digits(tmp_path / "imagenet"), digits(tmp_path / "coco", 12)
    sources = ("--set", f"sources.imagenet-val={one}", "--set", f"sources.coco-val={two}")
    found = run(
        tmp_path, "reconstruction", "--adapter", "tokenizers/*-mini", *sources, "--set", "n=12", "--set", "size=32"
    )
    assert [result["outcome"] for result in found] == ["ok"] * 20
    psnr = [m for result in found for m in result["metrics"] if (m["convention"], m["name"]) == ("llamagen", "psnr")]
    assert len(psnr) == 10
    assert all(metric["value"] > 10 for metric in psnr)


def test_rehearsal_of_nightly(tmp_path):
    words = [word for change in ("n=10", "min_calls=3", "min_seconds=0", "max_seconds=1") for word in ("--set", change)]
    found = run(tmp_path, "nightly", "--adapter", "*/var-mini", *words)
    assert [result["outcome"] for result in found] == ["ok"] * 6
    places = {tuple(m["at"].values()) for result in found for m in result["metrics"] if m["name"] == "frechet"}
    assert ("reconstructions to reference",) in places


def test_sweeps_are_packaged():
    assert {"guidance", "steps"} <= set(names())
    assert len({planned.cell.settings_id for planned in plan("guidance").cells}) == 12
    steps = [planned.cell.sampling.steps for planned in plan("steps").cells if not planned.exclusive]
    assert len(steps) > 6
    assert {planned.outcome for planned in plan("steps").cells} == {None}


@pytest.mark.parametrize("suite", ["speed", "memory"])
def test_speed_and_memory_take_every_family_up_to_a_size(suite):
    families = {"raster", "next_scale", "random_order", "continuous", "hybrid"}
    minis = {planned.cell.adapter for planned in plan(suite).cells}
    assert all(name.endswith("-mini") for name in minis)
    assert {name.partition("/")[0] for name in minis} == families
    large = plan(suite, "max_params=1000000000").cells
    names = {planned.cell.adapter for planned in large}
    assert {name.partition("/")[0] for name in names - minis} == families
    assert all((registry.card(name).parameters or 0) <= 10**9 for name in names)
    assert "next_scale/var-d30" not in names
    assert not [planned for planned in large if planned.outcome is not None]
    with pytest.raises(ConfigError, match="more than 1,000 parameters"):
        plan(suite, "max_params=1000")
