"""Originals of pairs are a part of the number: others under the same path are another reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import arbench
from arbench.errors import ImageError, InputError, StoreError
from arbench.front.images import Images

PSNR = {"conventions": "offline-pairs", "metrics": "psnr", "paired": True, "device": "cpu"}
SHAPE = (6, 16, 16, 3)


def _images(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


def _folder(path: Path, images: NDArray[np.uint8], mode: str = "RGB") -> Path:
    path.mkdir(exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).convert(mode).save(path / f"{index}.png")
    return path


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path / "cache"))


def test_others_under_the_same_path_are_not_compared(tmp_path: Path) -> None:
    samples, originals = _folder(tmp_path / "samples", _images(0)), _folder(tmp_path / "originals", _images(1))
    arbench.score(samples, originals, out=tmp_path / "one", **PSNR)
    again = arbench.score(samples, originals, **PSNR)
    _folder(originals, _images(2))
    arbench.score(samples, originals, out=tmp_path / "two", **PSNR)
    apart = arbench.difference(tmp_path / "one", tmp_path / "two")
    (row,) = apart.frame().to_dict("records")
    assert row["verdict"] == "not comparable"
    assert "reference" in row["why"]
    elsewhere = _folder(tmp_path / "elsewhere", _images(1))
    assert arbench.score(samples, elsewhere, **PSNR)["psnr"].key == again["psnr"].key


def test_what_is_odd_about_originals_is_said(tmp_path: Path) -> None:
    samples = _folder(tmp_path / "samples", _images(0))
    originals = _folder(tmp_path / "originals", _images(1), "RGBA")
    (result,) = arbench.score(samples, originals, **PSNR).results
    assert result.reference is not None
    assert (result.reference.n, result.reference.converted) == (6, {"alpha over white": 6})
    assert "alpha_over_white" in result.metrics[0].flags


def test_originals_that_are_read_once_are_read_once(tmp_path: Path) -> None:
    images = _images(1)
    assert arbench.score(_images(0), iter(images), **PSNR)["psnr"].value == pytest.approx(
        arbench.score(_images(0), images, **PSNR)["psnr"].value
    )


def _rows(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Path:
    np.savez(path, images, labels)
    return path


def test_labels_tell_that_rows_are_in_another_order(tmp_path: Path) -> None:
    images, labels = _images(1), np.arange(6)
    originals = _rows(tmp_path / "originals.npz", images, labels)
    right = arbench.score(_rows(tmp_path / "right.npz", images // 2, labels), originals, **PSNR)
    assert right["psnr"].value is not None
    with pytest.raises(InputError, match="row 0 of the samples has the label 5, and its original 0"):
        arbench.score(_rows(tmp_path / "wrong.npz", images[::-1] // 2, labels[::-1]), originals, **PSNR)


def test_a_shuffled_loader_makes_no_pairs() -> None:
    images = torch.from_numpy(_images(1).transpose(0, 3, 1, 2).copy())
    loaders = [torch.utils.data.DataLoader(images, batch_size=4, shuffle=shuffle) for shuffle in (False, True)]  # type: ignore[arg-type]
    assert arbench.score(images, loaders[0], **PSNR)["psnr"].value is not None
    for pair in ((images, loaders[1]), (loaders[1], images)):
        with pytest.raises(InputError, match="is shuffled"):
            arbench.score(*pair, **PSNR)


@pytest.mark.parametrize("shape", [(16, 16, 3), (3, 16, 16), (20, 16, 16)])
def test_one_image_is_not_a_set_of_its_rows(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="not an array of images"):
        arbench.score(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8), **PSNR)


def test_samples_of_classes_that_the_reference_lacks_are_flagged() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    names = ["neighbour-agreement", "frechet-per-class"]
    for classes, flagged in ((2, True), (1, False)):
        samples, reference = Images(images, np.arange(40) % classes), Images(images[::-1], np.zeros(40, np.int64))
        score = arbench.score(samples, reference, conventions="offline", metrics=names, device="cpu")
        assert ("classes_absent" in score[names[0]].flags) == flagged
        assert ("classes_missing" in score[names[1]].flags) == flagged


def test_pairs_need_no_cache_and_features_say_how_to_name_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path / "file" / "cache"))
    samples, originals = _folder(tmp_path / "samples", _images(0)), _folder(tmp_path / "originals", _images(1))
    assert arbench.score(samples, originals, **PSNR)["psnr"].value is not None
    with pytest.raises(StoreError) as caught:
        arbench.score(samples, originals, conventions="offline", metrics="frechet", device="cpu")
    assert "$ARBENCH_CACHE" in caught.value.hint
