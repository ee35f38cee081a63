"""What is done to pictures in the threads that decode them is what the consumer would do: crops, digests, errors."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arbench.data import sources
from arbench.data.crops import prepare
from arbench.data.readers import ahead, ready
from arbench.data.reading import Reading
from arbench.data.sources import open_images, open_stream
from arbench.errors import ImageError, InputError, UnknownName
from arbench.images import digest, digests

DRAW = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(40):
        shape = (40 + index % 3, 48, 3)
        Image.fromarray(DRAW.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / f"{index}.png")
    return tmp_path


def test_crops_and_digests_of_the_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = list(open_stream(str(folder)))
    assert [picture.digest for picture in plain] == [digests(picture.image[None])[0] for picture in plain]
    where = set()

    def noted(image: np.ndarray, recipe: str, size: int) -> np.ndarray:
        where.add(threading.current_thread().name.partition("_")[0])
        return prepare(image, recipe, size)

    monkeypatch.setattr("arbench.data.reading.prepare", noted)
    found = list(open_images(str(folder), Reading(crop="adm-center-crop-v1", size=24)))
    assert where == {"decode"}
    for one, whole in zip(found, plain, strict=True):
        wanted = prepare(whole.image, "adm-center-crop-v1", 24)
        assert (one.image == wanted).all()
        assert one.digest == digest(wanted)
        assert (one.index, one.key) == (whole.index, whole.key)


def test_a_crop_that_fails_is_the_same_error(folder: Path) -> None:
    with pytest.raises(UnknownName, match="no-such-crop"):
        list(open_images(str(folder), Reading(crop="no-such-crop", size=24)))
    with pytest.raises(InputError, match="needs a size"):
        open_images(str(folder), Reading(crop="adm-center-crop-v1"))


def test_a_thread_that_breaks_down_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises is raised, and nothing hangs."""
    known, seen = ready.digest, []

    def broken(image: np.ndarray) -> str:
        seen.append(1)
        if len(seen) > 20:
            raise MemoryError("no room")
        return known(image)

    monkeypatch.setattr(ready, "digest", broken)
    with pytest.raises(MemoryError):
        list(open_images(str(folder)))
    assert len(seen) > 20


def test_as_many_threads_as_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 2), (12, 12), (64, ahead.MOST)):
        monkeypatch.setattr(ahead.os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert ahead.threads() == threads


def test_a_bad_image_is_named(folder: Path) -> None:
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:200])
    with pytest.raises(ImageError, match=r"7\.png"):
        list(sources.open_images(str(folder), Reading(crop="adm-center-crop-v1", size=24)))
    stream = open_images(str(folder), Reading(crop="adm-center-crop-v1", size=24, on_bad="skip"))
    assert len(list(stream)) == 39
    assert stream.tally.skipped == {"truncated": 1}
