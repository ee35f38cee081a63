"""The pictures in the folder of a run are contact sheets: it is not a folder of images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arbench.data.sources import open_source, open_stream
from arbench.errors import ImageError

OPEN: list[Callable[[str | Path], Any]] = [open_source, open_stream]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a contact sheet, and a folder of images beside it; the working directory holds both."""
    for folder in ("runs/X/cells/r-12ab/pictures", "exported"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / folder / "a.png")
    (tmp_path / "runs/X/run.json").write_text(json.dumps({"run_id": "X"}))
    (tmp_path / "runs/X/results.parquet").write_bytes(b"PAR1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "X"


@pytest.mark.parametrize("opening", OPEN)
@pytest.mark.parametrize("name", ["runs/X", "folder:runs/X", "runs/X/"])
def test_a_run_is_refused(run: Path, opening: Callable[[str | Path], Any], name: str) -> None:
    with pytest.raises(ImageError) as caught:
        opening(name)
    assert caught.value.what == "runs/X is the folder of a run, not a folder of images"
    assert "contact sheets" in caught.value.why
    assert caught.value.hint == "arbench score runs/X:CELL --reference REF"


@pytest.mark.parametrize("opening", OPEN)
@pytest.mark.parametrize("prefix", ["", "folder:"])
@pytest.mark.parametrize("below", ["cells/r-12ab", "cells/r-12ab/pictures"])
def test_a_folder_in_a_run_is_refused(run: Path, opening: Callable[[str | Path], Any], prefix: str, below: str) -> None:
    with pytest.raises(ImageError, match="in the folder of a run, runs/X, not a folder of images") as caught:
        opening(f"{prefix}runs/X/{below}")
    assert caught.value.hint == "arbench score runs/X:r-12ab --reference REF"


def test_from_inside_a_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run / "cells")
    with pytest.raises(ImageError) as caught:
        open_stream(".")
    assert caught.value.hint == f"arbench score {run}:CELL --reference REF"


def test_a_run_without_pictures_is_refused_as_well(run: Path) -> None:
    (run / "cells/r-12ab/pictures/a.png").unlink()
    with pytest.raises(ImageError, match="is the folder of a run"):
        open_source(run)


def test_a_link_into_a_run_is_refused_and_one_out_of_it_is_not(run: Path) -> None:
    Path("link").symlink_to(run / "cells")
    with pytest.raises(ImageError, match="link is in the folder of a run"):
        open_source("folder:link")
    (run / "data").symlink_to(Path("exported").resolve())
    assert len(open_source(run / "data")) == 1


@pytest.mark.parametrize("content", ["{}", "[]", "3", "no json", '{"name": "another tool\'s"}'])
def test_folders_elsewhere_are_images(run: Path, content: str) -> None:
    Path("run.json").write_text(content)
    assert len(open_source("exported")) == 1
    assert open_stream("exported").count == 1
