"""Two folders compared: pairing by id, verdicts, what is not comparable, the command's exit codes and outputs."""

from __future__ import annotations

import json
import shutil

import pytest

import arbench
from arbench.cli.main import main
from arbench.compare.comparison import compare_folders
from arbench.compare.difference import tolerances
from arbench.compare.page import render
from arbench.errors import UsageError


def by_name(found):
    return {each.column.name: each for each in found.differences}


def test_the_same_samples_are_identical(runs):
    found = compare_folders(runs("a"), runs("b", latency=0.101))
    verdicts = {name: each.verdict for name, each in by_name(found).items()}
    assert verdicts == {
        "frechet": "identical", "kid": "identical", "precision": "identical", "class-agreement": "identical",
        "nats-per-token": "identical", "latency": "comparable", "steps": "identical", "peak-memory": "comparable",
        "tokens": "identical", "flops": "identical", "weight-passes": "identical",
        "other-load": "not told apart",
    }  # fmt: skip
    (samples,) = found.models[0].samples
    assert (samples.count, samples.same, samples.most) == (120, 120, ())


def test_samples_of_one_id_make_intervals_shorter(runs):
    found = compare_folders(runs("a"), runs("b", changed=0.1, temperature=1.1))
    each = by_name(found)
    for name in ("frechet", "kid", "class-agreement", "nats-per-token"):
        assert each[name].paired
        assert each[name].change.low <= each[name].change.value <= each[name].change.high
        assert each[name].change.value == pytest.approx(each[name].new.value - each[name].old.value)
    assert each["frechet"].shorter > 1.5
    assert each["kid"].shorter > 1.5
    # each image is worse by the same: that is certain, though its own interval is wide
    assert each["nats-per-token"].verdict == "worse"
    assert not each["precision"].paired
    assert [setting.words for setting in found.models[0].settings] == ["sampling.temperature: 1 -> 1.1"]
    (samples,) = found.models[0].samples
    assert samples.same == 108
    assert {int(one.id) for one in samples.most} == set(range(12))


def test_units_that_do_not_give_the_number_pair_nothing(runs):
    old, new = runs("a"), runs("b", changed=0.1)
    path = new / "cells" / "res-generate" / "result.json"
    document = json.loads(path.read_text())
    for metric in document["metrics"]:
        metric["value"] += 0.5
        metric["interval"]["low"] += 0.5
        metric["interval"]["high"] += 0.5
    path.write_text(json.dumps(document))
    each = by_name(compare_folders(old, new))
    assert not each["frechet"].paired
    assert not each["kid"].paired
    assert not each["class-agreement"].paired


def test_another_number_of_samples_is_not_comparable(runs):
    each = by_name(compare_folders(runs("a"), runs("b", n=100)))
    assert each["frechet"].verdict == "not comparable"
    assert "images: 120 -> 100" in each["frechet"].why
    assert each["latency"].verdict == "comparable"


def test_tolerances():
    found = tolerances(["fid=0.3", "latency=5%"])
    assert (found["fid"].amount, found["fid"].relative) == (0.3, False)
    assert (found["latency"].of(2), found["memory"].words) == (pytest.approx(0.1), "2 %")
    for bad in ("fid", "fid=x", "=1", "fid=-1"):
        with pytest.raises(UsageError, match="is not a tolerance"):
            tolerances([bad])


def test_two_models_stand_for_each_other_and_strangers_are_told(runs, tmp_path):
    found = compare_folders(runs("a"), runs("b", adapter="raster/other"))
    assert found.models[0].name == "next_scale/toy -> raster/other"
    with pytest.raises(UsageError, match="no model in common") as told:
        compare_folders(tmp_path / "a", runs("c", kind="tokenizer"))
    assert f"arbench report {tmp_path / 'a'} " in told.value.hint


def test_a_setting_that_one_side_lacks_is_told_in_words(runs, swept):
    found = compare_folders(swept("two"), runs("one", temperature=1.0))
    (lacking,) = found.alone
    assert "temperature 0.5" in lacking
    assert lacking.endswith(": only in the first")


def test_a_run_without_results_is_told_as_such(runs, tmp_path):
    shutil.rmtree(runs("b") / "cells")
    for old, new in ((runs("a"), tmp_path / "b"), (tmp_path / "b", tmp_path / "a")):
        with pytest.raises(UsageError, match="b has no results"):
            compare_folders(old, new)


def test_the_command_fails_on_what_it_is_asked_to(runs, capsys):
    old, new = str(runs("a")), str(runs("b", latency=0.12))
    assert main(["compare", old, new, "--fail-on", "quality"]) == 0
    assert main(["compare", old, new, "--fail-on", "speed"]) == 1
    assert "worse: latency (batch 1, sample) of next_scale/toy: x 1.2" in capsys.readouterr().err
    assert main(["compare", old, new, "--fail-on", "speed", "--tolerance", "latency=30%"]) == 0
    assert main(["compare", old, new, "--fail-on", "lpips"]) == 3
    assert main(["compare", old, new, "--names", "x"]) == 2
    capsys.readouterr()
    assert main(["compare", old, new, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (latency,) = [each for each in document["models"][0]["differences"] if each["metric"] == "latency"]
    assert (latency["verdict"], latency["kind"]) == ("worse", "ratio")


def test_page_and_front(runs):
    old, new = runs("a"), runs("b", changed=0.1, adapter="<script>alert(1)</script>")
    found = arbench.difference(old, new, names=("one", "two"))
    page = render(found.comparison)
    assert page.count("data:image/png") == 36
    assert "<script>alert(1)" not in page
    assert "times shorter" in repr(found)
    assert set(found.frame()["verdict"]) >= {"worse", "not told apart"}
    assert [each.column.name for each in found.worse("quality")] == ["nats-per-token"]


def test_what_ran_in_turn_takes_the_place_of_two_sessions(runs):
    old, new = runs("a"), runs("b", latency=0.13)
    good = [0.1 + 1e-4 * place for place in range(7)]

    def turns(pair):
        return {("speed", "latency (batch 1, sample)", ""): (good, [1.001 * value for value in good])}

    (latency,) = [each for each in compare_folders(old, new, turns=turns).differences if each.column.name == "latency"]
    assert (latency.verdict, latency.turns) == ("comparable", 7)
    assert latency.change.value == pytest.approx(1.001)
    assert compare_folders(old, new).worse(["speed"])


def test_images_stand_for_a_model(runs):
    found = compare_folders(runs("a"), runs("b", kind="images", adapter="folder"))
    assert found.models[0].name == "next_scale/toy -> folder"
