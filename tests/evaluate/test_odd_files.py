"""The order of files that torch-fidelity and clean-fid take, and which images have one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from arbench.evaluate.odd_files import in_text_order
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
