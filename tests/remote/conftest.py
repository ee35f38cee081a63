"""An empty folder of this machine, an empty store in memory, and a run whose units are a few bytes each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from arbench.run import mirror


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARBENCH_REMOTE", str(tmp_path / "copies"))
    monkeypatch.setattr(mirror, "RETRY", ())
    return tmp_path


@pytest.fixture(autouse=True)
def memory() -> Iterator[Any]:
    """fsspec's file system in memory, which a process has one of."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()
