"""Originals of pairs are a part of the number: others under the same path are another reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import arbench

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
