"""Reference features: extracted once, kept under what decides them, never half-written."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from arbench.data.indexed import ArraySource
from arbench.errors import StoreError
from arbench.features.reference_features import reference_features

IMAGES = np.random.default_rng(0).integers(0, 256, (150, 3, 4, 4), dtype=np.uint8)
SOURCE = ArraySource("memory", IMAGES)


class Means:
    """Channel means as features; counts the images that it is given."""

    name = "means"
    dimension = 3

    def __init__(self, convention: str = "means 1") -> None:
        self.convention = convention
        self.seen = 0

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen += len(images)
        return images.mean((2, 3)).astype(np.float32)


EXPECTED = IMAGES.mean((2, 3)).astype(np.float32)


def test_features_are_extracted_once(tmp_path: Path) -> None:
    extractor, done = Means(), []
    first = reference_features(SOURCE, extractor, tmp_path / "cache", done.append)
    np.testing.assert_array_equal(first, EXPECTED)
    assert first.dtype == np.float32
    assert done == [64, 128, 150]
    again = reference_features(SOURCE, extractor, tmp_path / "cache")
    np.testing.assert_array_equal(again, EXPECTED)
    assert extractor.seen == 150
    assert len(list((tmp_path / "cache").iterdir())) == 1  # no half-written file left


def test_two_at_once_extract_once(tmp_path: Path) -> None:
    extractor, at_work = Means(), threading.Event()

    def slowly(done: int) -> None:
        at_work.set()
        time.sleep(0.1)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(reference_features, SOURCE, extractor, tmp_path, slowly)
        assert at_work.wait(10)
        second = pool.submit(reference_features, SOURCE, extractor, tmp_path)
        np.testing.assert_array_equal(first.result(), second.result())
    assert extractor.seen == 150


def test_without_a_folder_nothing_is_kept() -> None:
    extractor = Means()
    reference_features(SOURCE, extractor)
    reference_features(SOURCE, extractor)
    assert extractor.seen == 300


def test_another_source_or_convention_is_another_file(tmp_path: Path) -> None:
    reference_features(SOURCE, Means(), tmp_path)
    other, newer = Means(), Means("means 2")
    reference_features(ArraySource("memory", IMAGES[::-1].copy()), other, tmp_path)
    reference_features(SOURCE, newer, tmp_path)
    assert (other.seen, newer.seen) == (150, 150)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("damage", [b"", b"not an npz", None])
def test_a_file_that_cannot_be_used_is_written_anew(tmp_path: Path, damage: bytes | None) -> None:
    reference_features(SOURCE, Means(), tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    extractor = Means()
    np.testing.assert_array_equal(reference_features(SOURCE, extractor, tmp_path), EXPECTED)
    assert extractor.seen == 150
    untouched = Means()
    reference_features(SOURCE, untouched, tmp_path)
    assert untouched.seen == 0


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot keep reference features"):
        reference_features(SOURCE, Means(), tmp_path / "file")
