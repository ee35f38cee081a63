"""Digits in folders, and the command run as a user runs it but in this process, which has imported torch already."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from arbench.cli.main import main
from arbench.data.readers.mnist import mnist5k


class Done(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> dict[str, Path]:
    """ "samples" (100) and "reference" (200): held-out and training digits in a folder per class."""
    root = tmp_path_factory.mktemp("digits")
    found = {}
    for name, split, count in (("samples", "heldout", 100), ("reference", "train", 200)):
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
def arbench(cache, tmp_path, monkeypatch, capsys) -> Run:
    """Runs one command in an empty folder, with no weights in the cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARBENCH_CACHE", str(cache))
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(cache / "none"))
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object, code: int = 0) -> Done:
        found = main([str(argument) for argument in arguments])
        done = Done(*capsys.readouterr())
        assert found == code, f"exit code {found}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def scored(arbench) -> Callable[..., dict[str, Any]]:
    """Runs `score --json` and gives the result, with a dictionary "by" of "convention name" -> metric."""

    def run(*arguments: object, **options: Any) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(arbench("score", *arguments, "--json", **options).stdout)
        document["by"] = {f"{metric['convention']} {metric['name']}": metric for metric in document["metrics"]}
        return document

    return run
