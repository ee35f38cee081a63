"""The systems as they were last loaded: the same ones, without their modules, until a module or a folder changes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import arbench.adapters.raster as family
from arbench import registry
from arbench.spec.system import System

SHOW = """
import json, sys
from arbench import registry
systems = registry.built_in()
print("arbench.adapters.raster.llamagen" in sys.modules)
print(json.dumps([system.model_dump() for system in systems], default=sorted))
"""
ADDED = """
from arbench.protocols import Card, System
SAID = {{"summary": {summary!r}, "implementation": "a:B", "resolution": 8}}
SYSTEM = System(name="added", cards=(Card(name="raster/added", kind="generator", family="raster", **SAID),))
"""


def fresh(folder: Path, **variables: str) -> tuple[bool, str]:
    """Whether a new interpreter imported a system, and its systems; its bytecode goes below `folder`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(folder), "PYTHONHASHSEED": "0"} | variables
    done = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
    imported, shown = done.stdout.splitlines()
    return imported == "True", shown


def kept_below(folder: Path) -> list[Path]:
    return list(folder.rglob("systems.*.pickle"))


def test_the_next_process_has_the_same_systems_and_imports_none(tmp_path: Path) -> None:
    first = fresh(tmp_path)
    assert fresh(tmp_path) == (False, first[1])
    assert first[0]
    (file,) = kept_below(tmp_path)
    whole = file.read_bytes()
    for damaged in (b"", whole[:1000], whole[:-1], b"not a pickle", pickle.dumps(print)):
        file.write_bytes(damaged)
        assert fresh(tmp_path) == first
    assert file.read_bytes() == whole or fresh(tmp_path) == (False, first[1])  # it was written anew


def test_nothing_is_kept_where_python_keeps_no_bytecode(tmp_path: Path) -> None:
    assert fresh(tmp_path, PYTHONDONTWRITEBYTECODE="1")[0]
    assert not kept_below(tmp_path)
    (tmp_path / "a-file").touch()
    assert fresh(tmp_path / "a-file") == fresh(tmp_path)  # where nothing can be written it does without


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module of a system that is written into a family's folder, and bytecode of this test's own."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "bytecode"))
    (tmp_path / "place").mkdir()
    monkeypatch.setattr(family, "__path__", [*family.__path__, str(tmp_path / "place")])
    yield tmp_path / "place" / "added" / "__init__.py"
    forget()


def forget() -> None:
    """As a new process would begin."""
    sys.modules.pop("arbench.adapters.raster.added", None)


def summaries(systems: list[System]) -> list[str]:
    forget()
    return [card.summary for system in systems if system.name == "added" for card in system.cards]


def test_a_system_that_is_added_changed_or_removed_is_seen(added: Path, tmp_path: Path) -> None:
    assert summaries(registry.built_in()) == []
    added.parent.mkdir()
    for summary in ("first", "another"):  # of two lengths: by them, Python's own bytecode is told apart within a second
        added.write_text(ADDED.format(summary=summary))
        assert summaries(registry.built_in()) == [summary]
        assert summaries(registry.built_in()) == [summary]
        assert kept_below(tmp_path / "bytecode")
    added.unlink()
    added.parent.rmdir()
    assert summaries(registry.built_in()) == []
