"""npz files of images: layouts, labels, reading without loading, and every way in which a file can be unusable."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from arbench.data.indexed import ImageSource
from arbench.data.readers.mnist import mnist5k
from arbench.data.sources import open_source
from arbench.errors import ImageError, InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 10, 12, 3), dtype=np.uint8)  # (N, H, W, C)
CHANNELS_FIRST = np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2))
Save = Callable[..., None]


def _open(path: Path) -> ImageSource:
    return open_source(f"npz:{path}")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("stored", [IMAGES, CHANNELS_FIRST], ids=["NHWC", "NCHW"])
def test_images_in_any_order_and_layout(tmp_path: Path, save: Save, stored: NDArray[np.uint8]) -> None:
    save(tmp_path / "a.npz", stored)
    source = _open(tmp_path / "a.npz")
    assert (len(source), source.resolution, source.labels) == (7, (10, 12), None)
    for indices in ([0, 1, 2], [6, 2, 2, 5], [3], [], range(7), [1, 0], [-1]):
        np.testing.assert_array_equal(source.load(indices), CHANNELS_FIRST[np.asarray(indices, dtype=int)])
    with pytest.raises(IndexError):
        source.load([7])


def test_labels_and_a_member_written_before_the_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", extra=np.zeros(100), arr_0=IMAGES, arr_1=np.arange(7, dtype=np.int32))
    source = _open(tmp_path / "a.npz")
    assert source.labels is not None
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == list(range(7))
    np.testing.assert_array_equal(source.load([4]), CHANNELS_FIRST[[4]])


def test_grey_is_repeated(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", IMAGES[..., :1])
    images = _open(tmp_path / "a.npz").load([0, 1])
    assert images.shape == (2, 3, 10, 12)
    np.testing.assert_array_equal(images, CHANNELS_FIRST[:2, :1].repeat(3, axis=1))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_digest_is_that_of_the_same_images_in_memory(tmp_path: Path, save: Save) -> None:
    source = mnist5k("heldout")
    save(tmp_path / "a.npz", source.load(range(len(source))).transpose(0, 2, 3, 1).copy(), source.labels)
    assert _open(tmp_path / "a.npz").digest() == source.digest()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_stays_low(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.npz", np.zeros((3000, 64, 64, 3), dtype=np.uint8))  # 37 MB
    tracemalloc.start()
    try:
        source = _open(tmp_path / "a.npz")
        for start in range(0, 3000, 100):
            assert source.load(range(start, start + 100)).shape == (100, 3, 64, 64)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6  # a few batches of 1.2 MB


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file at"):
        _open(tmp_path / "absent.npz")
    with pytest.raises(InputError, match="is not a file"):
        _open(tmp_path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", IMAGES)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    with pytest.raises(InputError, match="cannot read"):
        _open(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "has no arr_0"),
        ({}, "has no arr_0"),
        ({"arr_0": IMAGES.astype(np.float32) / 255}, "float32"),
        ({"arr_0": IMAGES.astype(np.int64)}, "int64"),
        ({"arr_0": IMAGES[..., 0]}, "not an array of images"),
        ({"arr_0": IMAGES[..., :2]}, "not an array of images"),
        ({"arr_0": np.asfortranarray(IMAGES)}, "not in C order"),
        ({"arr_0": IMAGES[:0]}, "holds no images"),
        ({"arr_0": IMAGES, "arr_1": np.arange(6)}, "not an array of labels"),
        ({"arr_0": IMAGES, "arr_1": np.eye(7)}, "not an array of labels"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, NDArray[np.generic]], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ImageError) as caught:
        _open(tmp_path / "a.npz")
    assert message in str(caught.value)


def test_pickled_objects_are_never_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    np.savez(tmp_path / "a.npz", arr_0=np.array([Trap()], dtype=object))
    with pytest.raises(ImageError, match="pickled objects"):
        _open(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", arr_0=IMAGES, arr_1=np.array([Trap()] * 7, dtype=object))
    with pytest.raises(ImageError, match="not an array of labels"):
        _open(tmp_path / "b.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_truncated_file(tmp_path: Path, save: Save, kept: float) -> None:
    path = tmp_path / "a.npz"
    save(path, IMAGES)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ImageError, match="not an npz file, or is damaged"):
        _open(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_altered_pixels_are_found_by_the_checksum(tmp_path: Path, save: Save) -> None:
    path = tmp_path / "a.npz"
    save(path, np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), dtype=np.uint8))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(bytes(data))
    source = _open(path)
    with pytest.raises(ImageError, match="is damaged"):
        source.digest()
    if save is np.savez_compressed:  # of stored rows only a pass from the start compares the checksum
        with pytest.raises(ImageError, match="is damaged"):
            source.load([59])


def test_a_header_that_promises_more_than_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, IMAGES)
    path.write_bytes(path.read_bytes().replace(b"(7, 10, 12, 3)", b"(9, 10, 12, 3)"))
    with pytest.raises(ImageError, match="not an npz file, or is damaged"):
        _open(path).digest()
