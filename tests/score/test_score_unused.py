"""`arbench score` refuses what no number of it would heed."""

from __future__ import annotations

import shutil

import pytest


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        (["--reference-crop", "adm-center-crop-v1", "--size", "16"], "--reference-crop"),
        (["--split", "val"], "--split"),
        (["--paired"], "--paired"),
        (["--reference", "all.npz", "--reference-crop", "adm-center-crop-v1", "--size", "16"], "--reference-crop"),
        (["--reference", "part", "-c", "offline", "--metric", "kid", "--kid-subset-size", "10"], "--kid-subset-size"),
        (["--prompts", "prompts.txt"], "--prompts"),
    ],
)
def test_an_option_that_no_number_heeds_is_refused(digits, arbench, tmp_path, options, refused):
    (tmp_path / "prompts.txt").write_text("a five\n")
    shutil.copytree(digits["reference"] / "5", tmp_path / "part")
    if "all.npz" in options:
        arbench("stats", "part", "-o", "all.npz")
    said = arbench("score", digits["samples"] / "5", *options, "--out", "out", code=2).stderr
    assert f"{refused} would change nothing here" in said


@pytest.mark.parametrize(("name", "why"), [("vgg16", "no metric asked for"), ("raster/llamagen-mini", "neither set")])
def test_weights_that_no_number_uses_are_refused(digits, arbench, tmp_path, name, why):
    """A file under another network's name would leave the numbers to the file in the weights folder."""
    (tmp_path / "file.pth").write_bytes(b"any")
    given = ("--weights", f"{name}=file.pth")
    for command in (
        ("score", digits["samples"], "-r", digits["reference"], "-c", "offline", *given, "--out", "out"),
        ("stats", digits["reference"], *given, "-o", "all.npz"),
    ):
        said = arbench(*command, code=2).stderr
        assert f"--weights {name}=... would change nothing here" in said
        assert why in said
