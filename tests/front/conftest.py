"""An empty folder, no weights of feature networks, and features of references shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

import arbench
from arbench.data.readers.mnist import mnist5k


@pytest.fixture(autouse=True)
def here(tmp_path, shared_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARBENCH_CACHE", str(shared_cache))
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(shared_cache / "none"))
    return tmp_path


@pytest.fixture(scope="module")
def model() -> Iterator[object]:
    with arbench.load("raster/llamagen-mini", device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def digits() -> NDArray[np.uint8]:
    """(40, 3, 32, 32) held-out digits, ten classes in turn."""
    return mnist5k("heldout").load(range(40))


@pytest.fixture(scope="session")
def others() -> NDArray[np.uint8]:
    return mnist5k("train").load(range(40))
