"""The order of files that torch-fidelity and clean-fid take, and which images have one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from arbench.evaluate.odd_files import in_text_order, more_files, more_than
from arbench.features.feature_set import PictureRecord

ROWS = np.arange(24, dtype=np.float32).reshape(12, 2)


def features(keys: list[str]) -> SimpleNamespace:
    return SimpleNamespace(pictures=[PictureRecord(i, key, 4, 4, None, "") for i, key in enumerate(keys)])


def test_unpadded_names_are_taken_as_text():
    keys = [f"{index}.png" for index in range(12)]
    np.testing.assert_array_equal(in_text_order(ROWS, features(keys)), ROWS[[0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]])


@pytest.mark.parametrize("key", ["{:02d}.png", "{}", "sample-{:06d}"])
def test_padded_names_and_places_stay(key):
    assert in_text_order(ROWS, features([key.format(index) for index in range(12)])) is ROWS


def test_without_features_nothing_moves():
    assert in_text_order(ROWS, None) is ROWS


@pytest.mark.parametrize(
    ("convention", "left_out"),
    [
        ("torch-fidelity", {"in sub-folders": 1, "named .webp": 1, "named .gif": 1}),
        ("clean-fid", {"named .gif": 1, "named .Png": 1}),
        ("pytorch-fid", {"in sub-folders": 1, "named .gif": 1, "named .PNG": 1, "named .Png": 1}),
        ("adm", {}),
    ],
)
def test_images_that_the_tool_would_leave_out_are_counted(convention, left_out):
    one = features(["a.png", "n/b.png", "c.webp", "d.gif", "e.PNG", "f.Png"])
    assert more_than(convention, one) == left_out
    flags = more_files([convention, convention], {"samples": features(["a.png"]), "reference": one})
    assert [flag.code for flag in flags] == ["more_files_than_the_tool"] * bool(left_out)
    assert all("of the reference" in flag.sentence for flag in flags)


def test_images_without_files_are_nobodys_to_leave_out():
    assert more_than("pytorch-fid", features(["0", "sample-000001"])) == {}
    assert more_than("pytorch-fid", None) == {}
