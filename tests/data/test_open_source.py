"""Sources by name: the packaged ones, and did-you-mean."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from arbench.data.sources import open_source
from arbench.errors import InputError, UnknownName


@pytest.mark.parametrize(("name", "count"), [("mnist5k/train", 4000), ("mnist5k/heldout", 1000)])
def test_mnist(name: str, count: int) -> None:
    source = open_source(name)
    assert (source.name, len(source), source.resolution) == (name, count, (32, 32))
    assert source.labels is not None
    assert np.bincount(source.labels).tolist() == [count // 10] * 10
    images = source.load([0, count - 1])
    assert (images.dtype, images.shape) == (np.uint8, (2, 3, 32, 32))


def test_the_splits_share_no_image() -> None:
    train, heldout = open_source("mnist5k/train"), open_source("mnist5k/heldout")
    seen = {image.tobytes() for image in train.load(range(4000))}
    assert not any(image.tobytes() in seen for image in heldout.load(range(1000)))
    assert train.digest() != heldout.digest()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mnist5k/heldut", "mnist5k/heldout"),
        ("mnist5k/Train", "mnist5k/train"),
        ("foldr:photos", "folder"),
        ("npyy:a.npz", "npy"),
    ],
)
def test_unknown_names_come_with_the_closest(name: str, meant: str) -> None:
    with pytest.raises(UnknownName, match="did you mean") as caught:
        open_source(name)
    assert meant in caught.value.why


@pytest.mark.parametrize("save", [np.save, np.savez])
def test_a_bare_path_is_told_by_its_content(tmp_path: Path, save: Callable[..., None]) -> None:
    with (tmp_path / "images").open("wb") as file:
        save(file, np.zeros((2, 4, 4, 3), dtype=np.uint8))
    for path in (tmp_path / "images", str(tmp_path / "images")):
        source = open_source(path)
        assert (source.name, len(source)) == (str(path), 2)


def test_a_prefix_without_a_path() -> None:
    with pytest.raises(InputError, match="no path in 'folder:'"):
        open_source("folder:")


def test_opening_sources_needs_no_torch() -> None:
    code = "import sys, arbench.data.sources, arbench.data.digest; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
