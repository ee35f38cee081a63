"""Folders of images: order, classes, how pixels become RGB, and every way in which a folder can be unusable."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from arbench.data.indexed import ArraySource, ImageSource
from arbench.data.sources import open_source
from arbench.errors import ImageError, InputError


def _draw(seed: int, height: int = 12, width: int = 16) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _save(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def _open(folder: Path) -> ImageSource:
    return open_source(f"folder:{folder}")


def test_images_come_in_natural_order_from_all_formats_that_keep_pixels(tmp_path: Path) -> None:
    names = ["1.png", "2.bmp", "10.PNG", "a2.png", "a10.png"]
    pixels = [_save(tmp_path / name, _draw(seed)) for seed, name in enumerate(names)]
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(b"no image")
    (tmp_path / ".cache").mkdir()
    _save(tmp_path / ".cache" / "thumb.png", _draw(9))
    source = _open(tmp_path)
    assert (len(source), source.resolution, source.labels) == (5, (12, 16), None)
    assert source.name == f"folder:{tmp_path}"
    np.testing.assert_array_equal(source.load(range(5)), np.stack(pixels).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(source.load([3, 0]), np.stack([pixels[3], pixels[0]]).transpose(0, 3, 1, 2))
    assert source.load([]).shape == (0, 3, 12, 16)


def test_lossy_formats_are_read_too(tmp_path: Path) -> None:
    smooth = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    for name in ("a.jpg", "b.jpeg", "c.webp"):
        _save(tmp_path / name, smooth)
    images = _open(tmp_path).load(range(3)).astype(int)
    assert np.abs(images - smooth.transpose(2, 0, 1)).max() <= 6


def test_sub_folders_are_classes_in_natural_order(tmp_path: Path) -> None:
    for seed, name in enumerate(["class10/x.png", "class2/b/y.png", "class2/a.png", "class1/z.png"]):
        _save(tmp_path / name, _draw(seed))
    (tmp_path / "empty").mkdir()
    source = _open(tmp_path)
    assert source.classes == {0: "class1", 1: "class2", 2: "class10"}
    assert source.labels is not None
    assert source.labels.tolist() == [0, 1, 1, 2]


def test_images_beside_class_folders_are_refused(tmp_path: Path) -> None:
    _save(tmp_path / "0" / "a.png", _draw(0))
    _save(tmp_path / "stray.png", _draw(1))
    with pytest.raises(ImageError, match=r"stray\.png is not in one"):
        _open(tmp_path)


def test_links_to_folders_are_followed_and_links_upwards_are_not(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "set"
    _save(store / "a.png", _draw(0))
    folder.mkdir()
    (folder / "one").symlink_to(store)
    (folder / "two").symlink_to(store)
    (store / "up").symlink_to(tmp_path)
    source = _open(folder)
    assert source.classes == {0: "one", 1: "two"}
    assert len(source) == 2


def test_the_digest_is_that_of_the_same_images_in_memory(tmp_path: Path) -> None:
    pixels = np.stack([_save(tmp_path / f"{i % 2}" / f"{i}.png", _draw(i)) for i in (0, 2, 1, 3)])
    labels = np.array([0, 0, 1, 1])
    in_memory = ArraySource("memory", np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), labels)
    assert _open(tmp_path).digest() == in_memory.digest()
    _save(tmp_path / "1" / "3.png", _draw(77))
    assert _open(tmp_path).digest() != in_memory.digest()


def _grey(folder: Path) -> None:
    Image.fromarray(np.array([[0, 100, 255]], dtype=np.uint8)).save(folder / "a.png")


def _grey16(folder: Path) -> None:
    Image.fromarray(np.array([[0, 25700, 65535]], dtype=np.uint16)).save(folder / "a.png")


def _palette(folder: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode="P")
    image.putpalette([0, 0, 0, 100, 100, 100, 255, 255, 255])
    image.save(folder / "a.png")


def _one_bit(folder: Path) -> None:
    Image.fromarray(np.array([[0, 0, 255]], dtype=np.uint8)).convert("1").save(folder / "a.png")


def _alpha(folder: Path) -> None:
    # black at alpha 255, 155 and 0 over white
    Image.fromarray(np.array([[[0, 0, 0, 255], [0, 0, 0, 155], [9, 9, 9, 0]]], dtype=np.uint8)).save(folder / "a.png")


def _grey_alpha(folder: Path) -> None:
    Image.fromarray(np.array([[[0, 255], [0, 155], [9, 0]]], dtype=np.uint8)).save(folder / "a.png")


def _transparent_palette(folder: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode="P")
    image.putpalette([0, 0, 0, 100, 100, 100, 7, 7, 7])
    image.save(folder / "a.png", transparency=2)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (_grey, [0, 100, 255]),
        (_grey16, [0, 100, 255]),
        (_palette, [0, 100, 255]),
        (_one_bit, [0, 0, 255]),
        (_alpha, [0, 100, 255]),
        (_grey_alpha, [0, 100, 255]),
        (_transparent_palette, [0, 100, 255]),
    ],
)
def test_how_pixels_become_rgb(tmp_path: Path, write: Callable[[Path], None], expected: list[int]) -> None:
    write(tmp_path)
    image = _open(tmp_path).load([0])
    assert image.shape == (1, 3, 1, 3)
    assert image[0, :, 0].tolist() == [expected] * 3


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(_open(tmp_path).load([0])[0].mean((1, 2)) - [255, 0, 0]).max() < 6


def test_pixels_without_an_8_bit_meaning_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "a.tiff")
    (tmp_path / "a.tiff").rename(tmp_path / "a.png")
    with pytest.raises(ImageError, match="pixels of kind F"):
        _open(tmp_path)


def test_no_folder_and_no_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder at"):
        _open(tmp_path / "absent")
    file = tmp_path / "file.png"
    _save(file, _draw(0))
    with pytest.raises(InputError, match="is not a folder"):
        _open(file)
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(ImageError, match="no images in"):
        _open(tmp_path / "empty")


def test_files_that_are_no_images_are_all_counted(tmp_path: Path) -> None:
    _save(tmp_path / "good.png", _draw(0))
    for index in range(7):
        (tmp_path / f"bad{index}.png").write_bytes(b"" if index else b"not an image")
    with pytest.raises(ImageError, match="7 of 8 images") as caught:
        _open(tmp_path)
    assert "bad0.png: not an image" in caught.value.why
    assert "and 2 more" in caught.value.why


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_truncated_images_are_named_when_read_and_all_found_by_the_digest(tmp_path: Path, suffix: str) -> None:
    for index in range(4):
        path = tmp_path / f"{index}.{suffix}"
        _save(path, _draw(index, 64, 64))
        if index % 2:
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    try:
        source = _open(tmp_path)  # the headers are whole; WebP's decoder may already object
    except ImageError as error:
        assert suffix == "webp"
        found = error
    else:
        assert source.load([0, 2]).shape == (2, 3, 64, 64)
        with pytest.raises(ImageError, match=r"1 of 2 images.*cannot be read") as one:
            source.load([0, 1])
        assert f"1.{suffix}" in one.value.why
        with pytest.raises(ImageError) as caught:
            source.digest()
        found = caught.value
    assert "2 of 4 images" in found.what
    assert f"1.{suffix}" in found.why
    assert f"3.{suffix}" in found.why


def test_mixed_sizes_are_listed_with_their_counts(tmp_path: Path) -> None:
    for index in range(3):
        _save(tmp_path / f"{index}.png", _draw(index, 12, 16))
    _save(tmp_path / "3.png", _draw(3, 20, 24))
    with pytest.raises(ImageError, match="differ in size") as caught:
        _open(tmp_path)
    assert caught.value.why == "16 x 12 (3 images), 24 x 20 (1 image)"


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # by a stand-in for the system call: tests may run as root, who may list everything
    _save(tmp_path / "a.png", _draw(0))

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="cannot list") as caught:
        _open(tmp_path)
    assert "Permission denied" in caught.value.why


def test_an_image_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path / "a.png", _draw(0))

    def refuse(path: Path, formats: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ImageError, match="1 of 1 image") as caught:
        _open(tmp_path)
    assert caught.value.why == "a.png: Permission denied"
