"""The way of images to a device and back: packed, in batches that fit, one chunk ahead of the one that is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from arbench.data.sources import open_images
from arbench.errors import InputError
from arbench.features import gather as passes
from arbench.features.extractor import FeatureExtractor, Running
from arbench.features.feature_folder import FeatureFolder
from arbench.features.feature_set import FeatureSet
from arbench.features.feature_writer import FeatureWriter
from arbench.features.gather import Target, gather, outputs_of
from arbench.features.to_device import FEWEST, MOST, Copies, batch_for, batch_within, packed


def images(*shapes: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """In the layout of a decoded file, whose bytes are not in C order."""
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (*shape, 3), dtype=np.uint8).transpose(2, 0, 1) for shape in shapes]


def test_images_of_one_size_are_one_batch() -> None:
    given = images((5, 7), (5, 7), (5, 7))
    (found,) = Copies(torch.device("cpu")).there(given)
    np.testing.assert_array_equal(found.numpy(), np.stack(given))


def test_images_of_many_sizes_come_one_by_one() -> None:
    given = images((5, 7), (7, 5), (1, 1), (7, 5))
    found = Copies(torch.device("cpu")).there(given)
    for one, image in zip(found, given, strict=True):
        np.testing.assert_array_equal(one.numpy(), image[None])
    assert packed(given, pinned=False).shape == (3 * (35 + 35 + 1 + 35),)


def test_a_batch_is_what_memory_allows() -> None:
    assert batch_for(torch.device("cpu"), 16, 1e9) == 16
    gigabyte = 10**9
    assert batch_within(80 * gigabyte, 24) == MOST == 64
    assert batch_within(4 * gigabyte, 24) == 32
    assert batch_within(2 * gigabyte, 40) == FEWEST
    assert batch_within(1, 40) == FEWEST


class Sums(FeatureExtractor):
    """The sum of each colour; notes what is begun and what is waited for."""

    recipe = "sums"
    outputs: Mapping[str, int] = {"sum": 3}
    weights, mode, device, batch = None, "parity", torch.device("cpu"), 2
    ahead = 0

    def __init__(self) -> None:
        self.told: list[str] = []

    def prepare(self, images: Tensor) -> Tensor:
        return images.float().sum((2, 3), keepdim=True)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"sum": pixels.sum((2, 3))}

    def begin(self, images: Sequence[NDArray[np.uint8]]) -> Running:
        begun, told = super().begin(images), self.told
        told.append("begin")

        class Told(Running):
            def result(self) -> dict[str, NDArray[np.float32]]:
                told.append("wait")
                return begun.result()

        return Told(begun.outputs, begun.batches)


class SumsAhead(Sums):
    ahead = 1


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(passes, "CHUNK", 3)
    draw = np.random.default_rng(1)
    np.savez(tmp_path / "images.npz", draw.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8))
    return str(tmp_path / "images.npz")


def extracted(source: str, extractor: Sums, folder: Path, limit: int | None = None) -> tuple[FeatureSet, list[int]]:
    writer = FeatureFolder(folder, source, {}).claim(extractor.recipe, outputs_of(extractor))
    assert isinstance(writer, FeatureWriter)
    told: list[int] = []
    found = gather(open_images(source), [Target(writer, extractor)], told.append)
    return found[0], told


def test_a_chunk_ahead_gives_the_same_files(source: str, tmp_path: Path) -> None:
    plain, ahead = Sums(), SumsAhead()
    one, told = extracted(source, plain, tmp_path / "one")
    two, told_ahead = extracted(source, ahead, tmp_path / "two")
    assert plain.told == ["begin", "wait"] * 3
    assert ahead.told == ["begin", "begin", "wait", "begin", "wait", "wait"]
    assert told == told_ahead == [3, 6, 8]
    np.testing.assert_array_equal(one.rows("sums:sum")[:], two.rows("sums:sum")[:])
    assert one.pictures == two.pictures


@pytest.mark.parametrize("kind", [Sums, SumsAhead])
def test_an_interrupted_pass_goes_on(source: str, tmp_path: Path, kind: type[Sums]) -> None:
    class Broken(kind):  # type: ignore[valid-type, misc]
        def begin(self, images: Sequence[NDArray[np.uint8]]) -> Running:
            if self.told.count("begin") == 2:
                raise KeyboardInterrupt
            return super().begin(images)  # type: ignore[no-any-return]

    with pytest.raises(KeyboardInterrupt):
        extracted(source, Broken(), tmp_path / "one")
    again = kind()
    found, told = extracted(source, again, tmp_path / "one")
    whole, _ = extracted(source, Sums(), tmp_path / "two")
    np.testing.assert_array_equal(found.rows("sums:sum")[:], whole.rows("sums:sum")[:])
    assert told == [3, 6, 8]
    assert again.told.count("begin") == again.told.count("wait") < 3


def test_several_calls_may_be_begun_before_the_first_is_waited_for() -> None:
    extractor, given = Sums(), images(*[(4, 6)] * 5, (9, 2))
    begun: list[Any] = [extractor.begin(given[start : start + 3]) for start in (0, 3)]
    found = np.concatenate([each.result()["sum"] for each in begun])
    np.testing.assert_array_equal(found, extractor(given)["sum"])
    np.testing.assert_array_equal(found, [image.sum((1, 2)) for image in given])
    assert extractor([])["sum"].shape == (0, 3)


def test_what_is_no_image_is_refused_before_the_device_is_given_anything() -> None:
    with pytest.raises(InputError, match="uint8"):
        Sums().begin([*images((4, 4)), np.zeros((3, 4, 4), np.float32)])  # type: ignore[list-item]
