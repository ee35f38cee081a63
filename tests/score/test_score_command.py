"""`arbench score` as a user runs it: offline features, reasons for what is missing, flags, pairs, shards, bad files."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from arbench import registry, weights
from arbench.features.feature_folder import sets_in
from arbench.metrics.sets.frechet import frechet

OFFLINE = "efficientnet-lite0:pooled"


def test_without_weights_the_offline_features_are_used_and_never_called_fid(digits, arbench, tmp_path):
    shown = arbench("score", digits["samples"], "--reference", digits["reference"], "--out", "out").stdout
    assert "offline" in shown
    assert "frechet" in shown
    assert "fid" not in shown.lower().replace("confidence", "")
    (file,) = (tmp_path / "out" / "cells").glob("*/result.json")
    document = json.loads(file.read_text())
    values = {metric["name"]: metric for metric in document["metrics"]}
    assert values["frechet"]["interval"]["method"].startswith("leave-one-out")
    assert values["frechet"]["n"] == 100
    assert "rank_deficient" in values["frechet"]["flags"]
    assert values["neighbour-agreement"]["value"] > 0.6  # chance: 0.1
    assert document["provenance"]["packages"]["torch"]
    for_scripts = json.loads((tmp_path / "out" / "score.json").read_text())
    assert for_scripts["samples"]["n"] == 100
    assert [score["metric"] for score in for_scripts["scores"]] == document["metrics"]
    table = pandas.read_parquet(next((tmp_path / "out" / "cells").glob("*/samples.parquet")))
    assert len(table) == 100
    assert sorted(table["label"].unique()) == list(range(10))
    assert table["nearest_reference"].between(0, 199).all()


def test_numbers_are_those_of_the_metric_functions_on_the_features_on_disk(digits, scored, monkeypatch, tmp_path):
    monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path / "cache"))  # with nothing in it but this reference
    found = scored(digits["samples"], "--reference", digits["reference"], "--out", "out")
    mine = sets_in(tmp_path / "out" / "features")["efficientnet-lite0"]
    (kept,) = (tmp_path / "cache").glob("score-*")
    theirs = sets_in(kept)["efficientnet-lite0"]
    assert len(theirs) == 200
    expected = frechet(mine.rows(OFFLINE)[:], theirs.rows(OFFLINE)[:])
    assert found["by"]["offline frechet"]["value"] == pytest.approx(expected.value, rel=1e-9)


def test_a_number_without_its_weights_is_null_with_the_next_command(digits, scored):
    found = scored(digits["samples"], "--reference", digits["reference"], "--convention", "adm,offline", "--out", "out")
    fid = found["by"]["adm fid"]
    assert fid["value"] is None
    assert "arbench weights fetch inception" in fid["reason"]
    assert found["by"]["offline frechet"]["value"] > 0


def test_only_missing_numbers_is_exit_code_3(digits, arbench):
    options = ("--reference", digits["reference"], "--convention", "cmmd", "--out", "out")
    assert "arbench weights fetch clip-vitl14-336" in arbench("score", digits["samples"], *options, code=3).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--convention", "admm"), "did you mean adm?"),
        (("--metric", "frechett"), "did you mean frechet"),
        (("--weights", "inceptoin=x"), "did you mean inception?"),
        (("--error", "bootstrap"), "known: delta, jackknife"),
        (("--shard", "3/3"), "counted from 0"),
        (("--on-bad-image", "ignore"), "error"),
        (("--reference-crop", "adm"), "adm-center-crop-v1"),
        (("--reference", "nowhere"), "nowhere"),
        (("--mode", "quick"), "parity"),
        (("--metric", "psnr", "--convention", "pairs"), "--paired"),
    ],
)
def test_bad_input_gives_one_clear_error(digits, arbench, arguments, says):
    given = ("--reference", digits["reference"]) if "--reference" not in arguments else ()
    done = arbench("score", digits["samples"], *given, *arguments, code=2)
    assert says in done.stderr
    assert done.stderr.startswith("arbench: ")


def test_bad_files_are_counted_or_an_error(digits, arbench, scored, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(digits["reference"] / "3", folder)
    good = len(list(folder.iterdir()))
    picture = next(folder.iterdir())
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(picture.read_bytes()[:-60])
    (folder / "text.jpg").write_text("no image")
    Image.open(picture).convert("CMYK").save(folder / "cmyk.jpg")
    Image.open(picture).convert("RGBA").save(folder / "alpha.png")
    Image.open(picture).convert("P").save(folder / "palette.png")
    Image.fromarray(np.zeros((32, 32), np.uint16)).save(folder / "deep.png")
    refused = arbench("score", folder, "--reference", digits["reference"], code=2).stderr
    assert "--on-bad-image skip" in refused
    found = scored(folder, "--reference", digits["reference"], "--on-bad-image", "skip", "--out", "out")
    assert found["samples"]["n"] == good + 4
    assert found["samples"]["skipped"] == {"empty file": 1, "truncated": 1, "not an image": 1}
    assert found["samples"]["converted"] == {
        "CMYK": 1,
        "alpha over white": 1,
        "palette": 1,
        "16-bit": 1,
        "grey": 1,  # the 16-bit one
    }
    assert len(found["samples"]["examples"]) == 3


@pytest.mark.parametrize("count", [3, 8])
def test_shards_in_any_order_give_the_same_numbers(digits, arbench, scored, count, tmp_path):
    whole = scored(digits["samples"], "--reference", digits["reference"], "--out", "one")
    parts = [f"part{index}" for index in range(count)]
    for index, part in enumerate(parts):
        arbench("score", digits["samples"], "--shard", f"{index}/{count}", "--out", part)
    random.Random(count).shuffle(parts)
    arbench("merge", *parts, "--out", "whole")
    merged = scored("whole", "--reference", digits["reference"], "--out", "two")
    for name, entry in whole["by"].items():
        if entry["value"] is None:
            assert merged["by"][name]["reason"] == entry["reason"]
        else:
            assert merged["by"][name]["value"] == pytest.approx(entry["value"], rel=1e-9), name
    assert merged["samples"]["digest"] == whole["samples"]["digest"]


def test_values_of_classes_stand_under_the_names_of_their_folders(digits, scored, tmp_path):
    """class2 is before class10 and the reference has one more class: a class has another number in each set."""
    for name in ("samples", "reference"):
        for label, title in ((3, "class2"), (5, "class10"), (7, "class1"))[: 2 if name == "samples" else 3]:
            shutil.copytree(digits["reference"] / str(label), tmp_path / name / title)
    found = scored("samples", "-r", "reference", "-c", "offline", "--metric", "*per-class", "--out", "out")["by"]
    for metric in ("frechet-per-class", "vendi-per-class"):
        assert found[f"offline {metric}"]["extras"].keys() == {"class class2", "class class10"}
    numbers = scored(digits["reference"], "-r", digits["reference"], "--metric", "vendi*", "--out", "out")["by"]
    assert "class 3" in numbers["offline vendi-per-class"]["extras"]


def test_the_split_of_statistics_is_what_the_user_says(digits, arbench, scored):
    arbench("stats", digits["reference"], "-o", "all.npz")
    found = scored(digits["samples"], "--reference", "all.npz", "--split", "val", "--metric", "frechet", "--out", "out")
    assert "reference_is_val" in found["by"]["offline frechet"]["flags"]


def test_a_shard_that_would_hold_nothing_is_an_error(digits, arbench):
    said = arbench("score", digits["samples"], "-c", "adm", "--shard", "0/2", "--out", "part", code=3).stderr
    assert "arbench weights fetch inception" in said
    arbench("score", digits["samples"], "--shard", "0/2", "--out", "part")
    arbench("score", digits["samples"], "--shard", "1/2", "--out", "other")
    arbench("merge", "part", "other", "--out", "whole")
    assert "--shard would change nothing" in arbench("score", "whole", "--shard", "0/2", code=2).stderr


def test_a_missing_shard_is_named(digits, arbench):
    for index in (0, 2):
        arbench("score", digits["samples"] / "0", "--shard", f"{index}/3", "--out", f"part{index}")
    assert "missing: 1/3" in arbench("merge", "part0", "part2", "--out", "whole", code=2).stderr


def test_pairs(digits, scored, tmp_path):
    """Reconstructions one level brighter than their originals: every metric of pairs is known in advance."""
    originals = digits["reference"] / "7"
    folder = tmp_path / "reconstructions"
    folder.mkdir()
    for path in originals.iterdir():
        pixels = np.asarray(Image.open(path))
        Image.fromarray(np.where(pixels < 255, pixels + 1, 254).astype(np.uint8)).save(folder / path.name)
    found = scored(folder, "--reference", originals, "--paired", "-c", "pairs,seed-voken,llamagen", "--out", "out")
    assert found["by"]["pairs psnr"]["value"] == pytest.approx(20 * np.log10(255))
    assert found["by"]["pairs psnr-pooled"]["value"] == pytest.approx(20 * np.log10(255))
    assert found["by"]["pairs l1"]["value"] == pytest.approx(1 / 255)
    assert found["by"]["pairs ms-ssim"]["value"] is None
    assert "smaller than" in found["by"]["pairs ms-ssim"]["reason"]
    assert "arbench weights fetch alexnet" in found["by"]["pairs lpips-alex"]["reason"]
    assert "data_range_2" in found["by"]["llamagen ssim"]["flags"]
    # SEED-Voken cuts decimals off the originals, which moves some of their levels down
    assert found["by"]["seed-voken psnr"]["value"] < found["by"]["pairs psnr"]["value"]
    table = pandas.read_parquet(next((tmp_path / "out" / "cells").glob("*/samples.parquet")))
    assert len(table) == 20
    assert table["psnr"].notna().all()


def test_a_pair_without_its_original_is_named(digits, arbench, tmp_path):
    originals = sorted((digits["reference"] / "5").iterdir())
    options = ("--reference", digits["reference"] / "5", "--paired", "-c", "pairs")
    for odd, extra, named in ((3, None, originals[3].name), (None, "zebra.png", "zebra.png")):
        folder = tmp_path / f"some-{odd}"
        folder.mkdir()
        for index, path in enumerate(originals):
            shutil.copy(path, folder / (f"x{path.stem}y.png" if index == odd else f"{path.stem}.png"))
        if extra is not None:
            shutil.copy(originals[0], folder / extra)
        assert named in arbench("score", folder, *options, code=2).stderr


def paired_folders(root: Path, samples: Sequence[str], originals: Sequence[str]) -> tuple[Path, Path]:
    """Images and the same images 8 levels off, under these names; None leaves one out."""
    generator = np.random.default_rng(0)
    folders = (root / "samples", root / "originals")
    for folder in folders:
        folder.mkdir()
    for mine, theirs in zip(samples, originals, strict=True):
        image = generator.integers(0, 248, (32, 32, 3), np.uint8)
        for folder, name, pixels in ((folders[0], mine, image + np.uint8(8)), (folders[1], theirs, image)):
            if name:
                Image.fromarray(pixels).save(folder / name)
    return folders


TRUE_PSNR = 20 * np.log10(255 / 8)
PADDED = [f"{index:03d}.png" for index in range(12)]


@pytest.mark.parametrize(
    ("samples", "originals"),
    [
        (PADDED, PADDED),
        (PADDED, [f"{index:05d}.bmp" for index in range(12)]),
        (PADDED, [f"ILSVRC2012_val_{index:08d}.png" for index in range(12)]),
        (PADDED, [f"val_{index + 100:08d}.png" for index in range(12)]),
    ],
)
def test_pairs_go_by_name_or_by_numbers_in_step(arbench, scored, tmp_path, samples, originals):
    mine, theirs = paired_folders(tmp_path, samples, originals)
    found = scored(mine, "--reference", theirs, "--paired", "-c", "pairs", "--metric", "psnr", "--out", "out")
    psnr = found["by"]["pairs psnr"]
    assert psnr["value"] == pytest.approx(TRUE_PSNR)
    assert ("paired_by_place" in psnr["flags"]) == originals[0].startswith("val")
    assert found["reference"]["n"] == 12


@pytest.mark.parametrize("samples", ["rec_{}.png", "{}.png"])
def test_sets_that_share_numbers_are_no_pairs_by_place(arbench, tmp_path, samples):
    """gt_0 to gt_5 beside rec_1 to rec_6: five originals have a partner, and none has it at its place."""
    mine, theirs = paired_folders(
        tmp_path, [samples.format(index + 1) for index in range(6)], [f"gt_{index}.png" for index in range(6)]
    )
    said = arbench("score", mine, "--reference", theirs, "--paired", "--metric", "psnr", "--out", "out", code=2).stderr
    assert "share numbers" in said
    assert "gt_1.png" in said


@pytest.mark.parametrize("missing", [0, 3, 11])
@pytest.mark.parametrize("name", ["{:03d}.png", "{:05d}.png", "val_{:04d}.png"])
@pytest.mark.parametrize("side", ["samples", "originals"])
def test_a_missing_partner_never_shifts_the_pairs(arbench, scored, tmp_path, missing, name, side):
    sets = {"samples": list(PADDED), "originals": [name.format(index) for index in range(12)]}
    sets[side][missing] = ""
    mine, theirs = paired_folders(tmp_path, **sets)
    command = ("score", mine, "--reference", theirs, "--paired", "-c", "pairs", "--metric", "psnr", "--out", "out")
    more_originals = side == "samples" and missing == 11 and not name.startswith("val")
    if more_originals:  # the first ones have their partners, and are read in step with them
        assert scored(*command[1:])["by"]["pairs psnr"]["value"] == pytest.approx(TRUE_PSNR)
    else:
        assert "pairs" in arbench(*command, code=2).stderr


@pytest.mark.parametrize("place", [3, 10])
@pytest.mark.parametrize("samples", [("{}.bmp", "{}.png"), ("{}.png",)], ids=["both sides", "one side"])
def test_a_name_that_stands_twice_is_refused(arbench, tmp_path, place, samples):
    """The doubled one in the middle, and at the end, where no later pair would tell."""
    mine, theirs = paired_folders(tmp_path, PADDED[:11], PADDED[:11])
    stem, image = f"{place:03d}", Image.new("RGB", (32, 32))
    (mine / f"{stem}.png").unlink()
    for name in samples:
        image.save(mine / name.format(stem))
    image.save(theirs / (f"{stem}.webp" if len(samples) == 2 else f"{stem}.bmp"))
    command = ("score", mine, "--reference", theirs, "--paired", "-c", "pairs", "--metric", "psnr", "--out", "out")
    assert stem in arbench(*command, code=2).stderr


ODD = {
    "alpha_over_white": ("RGBA", "{:03d}.png"),
    "upper_8_bits": ("I;16", "{:03d}.png"),
    None: ("RGB", "{:03d}.png"),
}


@pytest.mark.parametrize("code", ODD)
@pytest.mark.parametrize("side", ["samples", "reference"])
def test_files_that_the_tools_read_otherwise_are_a_flag(scored, tmp_path, code, side):
    mode, name = ODD[code]
    generator = np.random.default_rng(0)
    for folder in ("samples", "reference"):
        (tmp_path / folder).mkdir()
        for index in range(24):
            image = Image.fromarray(generator.integers(0, 255, (32, 32, 3), np.uint8))
            if folder == side and mode == "RGBA":
                image.putalpha(128)
            elif folder == side and mode == "I;16":
                image = Image.fromarray(generator.integers(0, 65535, (32, 32), np.uint16))
            image.save(tmp_path / folder / (name if folder == side else "{:03d}.png").format(index))
    found = scored("samples", "--reference", "reference", "-c", "offline", "--metric", "kid", "--out", "out")
    odd = set(ODD) & set(found["by"]["offline kid"]["flags"])
    assert odd == ({code} - {None})
    assert odd <= {remark["code"] for remark in found["remarks"]}


def test_one_pair_has_its_psnr_and_null_distances(arbench, scored, tmp_path):
    mine, theirs = paired_folders(tmp_path, ["a.png"], ["a.png"])
    found = scored(mine, "--reference", theirs, "--paired", "--out", "out")
    assert found["by"]["pairs psnr"]["value"] == pytest.approx(TRUE_PSNR)
    assert found["by"]["offline-pairs frechet"]["value"] is None
    assert "at least two vectors" in found["by"]["offline-pairs frechet"]["reason"]


@pytest.mark.numerical
def test_statistics_serve_as_a_reference_and_say_what_they_cannot_do(digits, arbench, scored):
    arbench("stats", digits["reference"], "-o", "reference.npz")
    direct = scored(digits["samples"], "--reference", digits["reference"], "--out", "one")["by"]
    stored = scored(digits["samples"], "--reference", "reference.npz", "--out", "two")["by"]
    value = direct["offline frechet"]["value"]
    assert stored["offline frechet"]["value"] == pytest.approx(value, rel=1e-6)
    assert stored["offline kid"]["value"] is None
    assert "needs the images" in stored["offline kid"]["reason"]
    arbench("stats", digits["reference"], "-o", "all.npz", "--keep-features")
    kept = scored(digits["samples"], "--reference", "all.npz", "--out", "three")["by"]
    # the same vectors, to the last bit
    for field in ("value", "interval", "n", "flags"):
        assert kept["offline kid"][field] == direct["offline kid"][field]


def test_a_reference_that_does_not_fit_is_a_remark_or_with_strict_an_error(digits, arbench, scored):
    options = ("--reference", digits["reference"], "--split", "val")
    found = scored(digits["samples"], *options, "--out", "out")
    assert "reference_is_val" in found["by"]["offline frechet"]["flags"]
    assert "reference_is_val" in arbench("score", digits["samples"], *options, "--strict", code=2).stderr


def test_a_finished_pass_is_not_done_again(digits, arbench, tmp_path):
    options = (digits["samples"], "--reference", digits["reference"], "--out", "out")
    arbench("score", *options)
    (file,) = (tmp_path / "out" / "features").glob("*/*.f32")
    before = file.stat().st_mtime_ns
    arbench("score", *options)
    assert file.stat().st_mtime_ns == before


def test_a_generator_is_scored_without_files(digits, arbench, scored):
    given = ("generator:raster/llamagen-mini", "--reference", digits["reference"])
    assert "--limit" in arbench("score", *given, code=2).stderr
    found = scored(*given, "--limit", 40, "--out", "out", "--metric", "neighbour-agreement")
    assert found["samples"]["n"] == 40
    assert found["by"]["offline neighbour-agreement"]["value"] > 0.6


def test_new_weights_of_a_generator_are_never_given_the_old_number(digits, scored, tmp_path):
    shipped = weights.find(registry.card("raster/llamagen-mini"), {})
    assert shipped is not None
    file = tmp_path / "mine.safetensors"
    shutil.copy(shipped, file)
    given = ("generator:raster/llamagen-mini", "--weights", f"raster/llamagen-mini={file}", "--limit", 24)
    command = (*given, "--reference", digits["reference"], "--metric", "frechet")
    old = scored(*command, "--out", "out")["by"]["offline frechet"]["value"]
    state = load_file(file)
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if value.is_floating_point() and value.numel() > 1:
            state[name] = value + 0.3 * value.std() * torch.randn(value.shape, generator=generator)
    save_file(state, file)
    new = scored(*command, "--out", "out")["by"]["offline frechet"]["value"]
    fresh = scored(*command, "--out", "fresh")["by"]["offline frechet"]["value"]
    assert old != new == fresh


def test_weights_verb_and_listings(arbench):
    assert "inception" in arbench("weights").stdout
    assert "did you mean" in arbench("weights", "fech", code=2).stderr
    assert "torch-fidelity-2048" in arbench("ls", "conventions").stdout
    assert "inception/tf1" in arbench("ls", "recipes").stdout
