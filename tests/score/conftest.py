"""Digits as folders and files of several kinds, and the command run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arbench.data.mnist import mnist5k

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> dict[str, Path]:
    """ "samples" (150) and "reference" (160): held-out and training digits in a folder per class."""
    root = tmp_path_factory.mktemp("digits")
    found = {}
    for name, split, count in (("samples", "heldout", 150), ("reference", "train", 160)):
        source = mnist5k(split)
        assert source.labels is not None
        per_class = count // 10
        for label in range(10):
            folder = root / name / str(label)
            folder.mkdir(parents=True)
            for index in np.flatnonzero(source.labels == label)[:per_class].tolist():
                Image.fromarray(source.load([index])[0].transpose(1, 2, 0)).save(folder / f"{index:05d}.png")
        found[name] = root / name
    return found


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Features of references, shared by all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def arbench(cache, tmp_path, monkeypatch) -> Run:
    """Runs one command in an empty folder, with no weights in the cache."""

    def run(*arguments: object, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "arbench", *(str(argument) for argument in arguments)],
            cwd=tmp_path,
            env={**os.environ, "ARBENCH_CACHE": str(cache), "ARBENCH_WEIGHTS": str(cache / "none"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def scored(arbench) -> Callable[..., dict[str, Any]]:
    """Runs `score --json` and gives the document, with a dictionary "by" of "convention metric" -> score."""

    def run(*arguments: object, **options: Any) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(arbench("score", *arguments, "--json", **options).stdout)
        document["by"] = {f"{entry['convention']} {entry['metric']['name']}": entry for entry in document["scores"]}
        return document

    return run
