"""Text-to-image generators are scored and run from caption files, in the order of the prompts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image

import arbench
from arbench import registry
from arbench.captions import Features, write
from arbench.data.prompts import texts
from arbench.errors import InputError, Unsupported, UsageError
from arbench.features.extract import Extractors
from arbench.features.networks import clip
from arbench.features.weight_files import feature_weights
from arbench.gallery import Gallery
from arbench.metrics.sets.clip_score import clip_score
from arbench.report.columns import column_of
from arbench.score.generated import GeneratedStream
from arbench.spec.result import Result

PAINTER = '''
import torch

from arbench.adapters.layers.captions import request_captions
from arbench.protocols import NO_PROBE, Card, Generated


def card(name, implementation, captions):
    return Card(name=name, kind="generator", family="other", implementation=f"pictures:{implementation}",
                summary="one shade", resolution=16, condition="text", captions=captions)


CARDS = (card("pictures/painter", "Painter", (2, 3)), card("pictures/etcher", "Painter", (2, 4)),
         card("pictures/reader", "Reader", None))


class Painter:
    """Paints a caption's first number, as grey."""

    tokenizer = None

    def __init__(self, card):
        self.card = card

    @classmethod
    def load(cls, card, spec, tokenizer):
        return cls(card)

    def prepare(self, batch, sampling): ...

    def sample(self, request, sampling, *, probe=NO_PROBE):
        features, mask = request_captions(self.card, request, 2, 3, "cpu")
        grey = features[:, 0, 0].clamp(0, 1).reshape(-1, 1, 1, 1)  # what is timed is random
        return Generated(images=grey.expand(-1, 3, 16, 16), outer_steps=1, forwards=1)

    def close(self): ...


class Reader(Painter):
    """Paints the number that the text of a prompt ends with."""

    def sample(self, request, sampling, *, probe=NO_PROBE):
        grey = torch.tensor([int(prompt.split()[-1]) / 255 for prompt in request.prompts]).reshape(-1, 1, 1, 1)
        return Generated(images=grey.expand(-1, 3, 16, 16), outer_steps=1, forwards=1)
'''
SMALL_CLIP = """
from arbench.features.networks import clip

CONFIG = {"embed_dim": 16, "quick_gelu": True,
          "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
          "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}}
clip.configuration = lambda name: CONFIG
"""
"""Importing it makes CLIP small, in workers too."""


@pytest.fixture(autouse=True)
def painter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    site = tmp_path / "site"
    info = site / "pictures-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "pictures.py").write_text(SMALL_CLIP + PAINTER)
    monkeypatch.setattr(clip, "configuration", clip.configuration)  # as it was, once this is over
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pictures\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[arbench.adapters]\npictures = pictures:CARDS\n")
    monkeypatch.syspath_prepend(site)
    registry._load.cache_clear()
    yield
    registry._load.cache_clear()
    sys.modules.pop("pictures", None)


def shade(prompt: str) -> Features:
    """Features that stand for the number a prompt holds."""
    return Features(torch.full((2, 3), int(prompt.split()[-1]) / 255), torch.ones(2, dtype=torch.int64), cut=False)


def encoded(folder: Path, count: int) -> tuple[Path, list[str]]:
    prompts = [f"grey & <small> number {value}" for value in range(10, 10 + count)]
    return write(prompts, folder, shade, {}).prompts, prompts


def test_a_loaded_model_takes_the_prompts_in_order(tmp_path: Path) -> None:
    listed, _ = encoded(tmp_path / "captions", 5)
    lines = listed.read_text().splitlines()
    with arbench.load("pictures/painter", device="cpu") as model:
        images = model.sample(4, prompts=lines)
        assert [int(image.mean()) for image in images.array] == [10, 11, 12, 13]
        assert images.labels is None
        with pytest.raises(InputError, match="6 images of 5 prompts"):
            model.sample(6, prompts=lines)
        with pytest.raises(UsageError, match="needs prompts"):
            model.sample(6)
        with pytest.raises(Unsupported, match="has no classes"):
            model.sample(2, classes=3, prompts=lines)


def test_each_sample_is_made_of_the_prompt_of_its_line(tmp_path: Path) -> None:
    listed, prompts = encoded(tmp_path / "captions", 70)  # more than a batch
    lines = listed.read_text().splitlines()
    assert texts([*lines, "a cat", "gone.safetensors"]) == (*prompts, "a cat", "gone.safetensors")
    stream = GeneratedStream("pictures/painter", 70, "cpu", prompts=lines)
    shades = [int(picture.image.mean()) for picture in stream]
    assert shades == list(range(10, 80))
    second = GeneratedStream("pictures/painter", 70, "cpu", shard=(1, 3), prompts=lines)
    assert [int(picture.image.mean()) for picture in second] == list(range(11, 80, 3))


def test_the_score_command_takes_as_many_images_as_there_are_prompts(digits, arbench, scored, tmp_path) -> None:
    listed, _ = encoded(tmp_path / "captions", 20)
    given = ("generator:pictures/painter", "--reference", digits["reference"], "--metric", "frechet", "--out", "out")
    first = scored(*given, "--prompts", listed)
    assert first["samples"]["n"] == 20
    value = first["by"]["offline frechet"]["value"]
    assert np.isfinite(value)
    # the same paths with other features in them are another set of samples
    write(["grey number 250"] * 20, tmp_path / "captions", shade, {})
    assert scored(*given, "--prompts", listed)["by"]["offline frechet"]["value"] != value
    fewer = scored(*given, "--prompts", listed, "--limit", 16)
    assert fewer["samples"]["n"] == 16


def test_a_text_to_image_generator_without_captions_is_a_clear_error(digits, arbench, tmp_path) -> None:
    given = ("score", "generator:pictures/painter", "--reference", digits["reference"])
    said = arbench(*given, "--limit", 4, code=2).stderr
    assert "pictures/painter needs prompts" in said
    assert "arbench captions pictures/painter" in said
    listed, _ = encoded(tmp_path / "captions", 3)
    assert "4 images of 3 prompts" in arbench(*given, "--prompts", listed, "--limit", 4, code=2).stderr
    (tmp_path / "plain.txt").write_text("a cat\na " + "very " * 80 + "long dog\n")
    said = arbench(*given, "--prompts", tmp_path / "plain.txt", code=2).stderr
    assert "cannot read the caption features 'a cat'" in said
    assert "arbench captions writes" in said


# ---- in a suite ------------------------------------------------------------------------------------------------------

SUITE = """suite: texts
adapters: [{adapters}]
tasks:
  - generate:
      prompts: {prompts}
      reference: {reference}
      conventions: [offline, clip-score]
      metrics: [frechet, kid, vendi, "clip-score*"]
{more}"""


def suite(
    folder: Path, prompts: Path | str, reference: Path | str, adapters: str = "pictures/painter", more: str = ""
) -> Path:
    path = folder / "texts.yaml"
    path.write_text(
        SUITE.format(adapters=adapters, prompts=prompts, reference=reference, more=f"      {more}\n" if more else "")
    )
    return path


def results(folder: Path) -> dict[str, dict]:
    """The results of a run by adapter; each has its metrics by name."""
    found = {}
    for path in (folder / "cells").glob("*/result.json"):
        document = json.loads(path.read_text())
        found[document["adapter"]] = document | {"by": {metric["name"]: metric for metric in document["metrics"]}}
    return found


def stored(path: Path) -> Result:
    return Result.model_validate_json(path.read_bytes())


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory) -> Path:
    """Random weights of the small CLIP."""
    space: dict = {}
    exec(SMALL_CLIP.replace("clip.configuration =", "unused ="), space)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip") / "clip.pt"
    torch.save(CLIP(**space["CONFIG"]).state_dict(), path)
    return path


def test_a_suite_draws_prompts_from_run_to_report(digits, arbench, scored, tmp_path, clip_file) -> None:
    listed, prompts = encoded(tmp_path / "captions", 70)  # more than a unit
    weights = ("--weights", f"clip-vitb32={clip_file}")
    given = suite(tmp_path, listed, digits["reference"], "'pictures/*', next_scale/var-mini")

    shown = json.loads(arbench("show", given, "--json", *weights).stdout)
    outcomes = {cell["adapter"]: (cell["outcome"], cell["units"], cell["reason"]) for cell in shown["cells"]}
    assert outcomes["pictures/painter"] == outcomes["pictures/reader"] == (None, 2, "")
    assert outcomes["next_scale/var-mini"][0] == "unsupported"
    assert "its condition is class, and this task draws prompts" in outcomes["next_scale/var-mini"][2]
    assert outcomes["pictures/etcher"][0] == "unsupported"
    assert "(2, 3) and not (2, 4): arbench captions pictures/etcher PROMPTS" in outcomes["pictures/etcher"][2]
    (values,) = [cell["values"] for cell in shown["cells"] if cell["adapter"] == "pictures/painter"]
    counted = next(item for item in values if item["name"] == "task.n")
    assert (counted["value"], counted["origin"]) == (70, f"prompts in {listed}")

    arbench("run", given, "--out", "out", "--track", "off", *weights)
    found = results(tmp_path / "out")
    assert {name: each["outcome"] for name, each in found.items()} == {
        "pictures/painter": "ok",
        "pictures/reader": "ok",
        "pictures/etcher": "unsupported",
        "next_scale/var-mini": "unsupported",
    }
    painter = found["pictures/painter"]
    assert all(painter["by"][name]["value"] is not None for name in ("frechet", "kid", "vendi", "clip-score"))
    assert painter["by"]["frechet"]["reference"]["name"] == str(digits["reference"])
    assert painter["by"]["class-agreement"]["reason"].startswith("no classifier")
    assert set(painter["provenance"]["data"]) == {f"prompts:{listed}", f"captions:{listed}", str(digits["reference"])}
    assert {name: each["value"] for name, each in found["pictures/reader"]["by"].items()} == {
        name: each["value"] for name, each in painter["by"].items()
    }

    # CLIPScore is that of these images and these texts
    images = [np.full((3, 16, 16), value, dtype=np.uint8) for value in range(10, 80)]
    known = feature_weights({"clip-vitb32": str(clip_file)})
    rows = Extractors(known, "cpu", "parity").get("clip-b32/llamagen")(images)["image"]
    value = painter["by"]["clip-score-llamagen"]["value"]
    for given, alike in ((prompts, True), (prompts[::-1], False)):
        embedded = clip.encode_prompts(given, known, prefix="A photo depicts ")
        expected = clip_score(rows, embedded, "llamagen")[1].value
        assert (value == pytest.approx(expected, rel=1e-5)) is alike

    # the same digits from the stored samples, in the same columns
    again = scored("out:pictures/painter", *weights, "--out", "scores")
    for name, metric in painter["by"].items():
        if name != "class-agreement":
            assert again["by"][f"{metric['convention']} {name}"]["value"] == metric["value"], name
    (own,) = [
        stored(path)
        for path in (tmp_path / "out" / "cells").glob("*/result.json")
        if '"ok"' in path.read_text() and "pictures/painter" in path.read_text()
    ]
    (score,) = [stored(path) for path in (tmp_path / "scores" / "cells").glob("*/result.json")]
    columns = {column_of(own, metric).key for metric in own.metrics}
    assert {column_of(score, metric).key for metric in score.metrics} <= columns
    assert all("digest of prompts" in protocol for *_, protocol in columns)
    arbench("report", "out", "scores", "-o", "both.html")
    page = (tmp_path / "both.html").read_text()
    assert 'title="grey &amp; &lt;small&gt; number 10"' in page
    assert "Samples of prompts" in page
    (pictures,) = {Gallery.read(path).prompts for path in (tmp_path / "out" / "cells").glob("*/pictures.npz")}
    assert pictures == tuple(prompts[:40])
    arbench("export", "out:pictures/painter", "--npz", "samples.npz")
    exported = np.load(tmp_path / "samples.npz")
    assert "arr_1" not in exported  # there are no classes
    assert exported["arr_0"].mean((1, 2, 3)).astype(int).tolist() == list(range(10, 80))


def test_without_reference_and_clip_weights_numbers_are_null_with_a_reason(arbench, tmp_path) -> None:
    listed, _ = encoded(tmp_path / "captions", 30)
    given = suite(tmp_path, listed, "null", more="n: 20")
    said = arbench("show", given).stdout
    assert "no reference is given, so these will be null: offline frechet, offline kid" in said
    assert "no weights of clip-vitb32, so these will be null: clip-score clip-score" in said
    arbench("run", given, "--out", "out", "--track", "off")
    by = results(tmp_path / "out")["pictures/painter"]["by"]
    assert by["vendi"]["value"] > 1
    assert by["vendi"]["n"] == 20
    for name, reason in (
        ("frechet", "no reference was given"),
        ("kid", "no reference was given"),
        ("clip-score", "no weights of clip-vitb32"),
        ("class-agreement", "no reference is given"),
    ):
        assert (by[name]["value"], by[name]["reference"]) == (None, None), name
        assert by[name]["reason"].startswith(reason), name
    arbench("report", "out", "-o", "report.html")
    arbench("score", "out", "--metric", "vendi", "--out", "scores")


def test_what_a_suite_cannot_draw_is_known_before_the_run(arbench, tmp_path) -> None:
    listed, _ = encoded(tmp_path / "captions", 3)
    (tmp_path / "plain.txt").write_text("a cat\na dog\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "gone.txt").write_text(f"{tmp_path / 'gone.safetensors'}\n")

    def reason(prompts: Path | str, adapter: str = "pictures/painter") -> str:
        shown = arbench("show", suite(tmp_path, prompts, "mnist5k/heldout", adapter), "--json").stdout
        (cell,) = json.loads(shown)["cells"]
        return f"{cell['outcome']}: {cell['reason']}"

    assert reason(tmp_path / "plain.txt", "pictures/reader") == "None: "
    assert reason(listed) == "None: "
    said = reason(tmp_path / "plain.txt")
    assert said.startswith("unsupported: ")
    assert "holds text ('a cat'), and it reads features of a text encoder: arbench captions pictures/painter" in said
    for prompts, expected in (
        ("absent.txt", "cannot read the prompts in absent.txt"),
        (tmp_path / "empty.txt", "empty.txt has no prompts"),
        (tmp_path / "gone.txt", "cannot read the caption features"),
    ):
        assert expected in arbench("show", suite(tmp_path, prompts, "mnist5k/heldout"), code=2).stderr
    more = suite(tmp_path, listed, "mnist5k/heldout", more="n: 4")
    assert f"{listed} has 3 prompts" in arbench("show", more, code=2).stderr
    (tmp_path / "none.yaml").write_text("suite: none\nadapters: [pictures/painter]\ntasks: [generate]\n")
    assert "it makes images of prompts: generate: {prompts: FILE}" in arbench("show", "none.yaml").stdout
    for wrong in ("{reference: null}", "{n: null}"):
        (tmp_path / "none.yaml").write_text(f"suite: none\nadapters: [pictures/painter]\ntasks: [generate: {wrong}]\n")
        assert "no prompts are given" in arbench("show", "none.yaml", code=2).stderr


def test_prompts_and_captions_are_part_of_what_a_result_is(arbench, tmp_path) -> None:
    def cell(prompts: Path) -> dict:
        shown = arbench("show", suite(tmp_path, prompts, "mnist5k/heldout"), "--json").stdout
        (found,) = json.loads(shown)["cells"]
        return found

    listed, prompts = encoded(tmp_path / "one", 5)
    first = cell(listed)
    write(prompts, tmp_path / "one", shade, {"encoder": "another"})  # the same texts by another encoder
    second = cell(listed)
    assert first["result_id"] != second["result_id"]
    assert first["data"][f"prompts:{listed}"] == second["data"][f"prompts:{listed}"]
    assert first["data"][f"captions:{listed}"] != second["data"][f"captions:{listed}"]
    write([*prompts[:-1], "grey number 99"], tmp_path / "one", shade, {"encoder": "another"})
    third = cell(listed)
    assert third["data"][f"prompts:{listed}"] != second["data"][f"prompts:{listed}"]
    assert third["settings_id"] == first["settings_id"]


def test_the_text_to_image_suite_is_rehearsed(digits, arbench, tmp_path) -> None:
    listed, _ = encoded(tmp_path / "captions", 20)
    sources = [f"sources.{name}={listed}" for name in ("mjhq-flan-t5", "mjhq-qwen2", "coco-flan-t5", "coco-qwen2")]
    photographs = tmp_path / "photographs"  # which differ in size, as COCO's do
    photographs.mkdir()
    for index in range(20):
        noise = np.random.default_rng(index).integers(0, 256, (40 + index, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(photographs / f"{index:03d}.png")
    sources += [f"sources.mjhq-images={digits['reference']}", f"sources.coco-images={photographs}"]
    changes = [*sources, "conventions=[offline, clip-score]"]
    changes += ["batches=[1]", "min_calls=3", "min_seconds=0", "max_seconds=1"]
    words = [word for change in changes for word in ("--set", change)]
    # one list of prompts for all encoders would be one task four times
    shown = arbench("run", "text-to-image", "--adapter", "pictures/painter", *words, code=2).stderr
    assert "the suite runs generate pictures/painter twice" in shown
    for name in ("mjhq-qwen2", "coco-flan-t5", "coco-qwen2"):
        folder = tmp_path / name
        other, _ = encoded(folder, 20)
        words[words.index(f"sources.{name}={listed}")] = f"sources.{name}={other}"
    arbench("run", "text-to-image", "--adapter", "pictures/painter", *words, "--out", "run", "--track", "off")
    found = [json.loads(path.read_text()) for path in (tmp_path / "run" / "cells").glob("*/result.json")]
    assert [result["outcome"] for result in found] == ["ok"] * 6
    numbers = [m for result in found if result["task"] == "generate" for m in result["metrics"]]
    assert len([m for m in numbers if m["name"] == "frechet" and m["value"] is not None]) == 4
    assert str(photographs) in {m["reference"]["name"] for m in numbers if m["name"] == "frechet"}
    assert all("no weights of clip-vitb32" in m["reason"] for m in numbers if m["name"] == "clip-score")
