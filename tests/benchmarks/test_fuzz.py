"""The program that changes files at random: each kind is read when it is whole, and refused or read when it is not."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_a_few_cases_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    program = importlib.import_module("fuzz")
    kinds = program.kinds()
    assert sum(kind.share for kind in kinds) == pytest.approx(1.0)
    for kind in kinds:
        for whole in kind.files:
            program.one_case(kind, whole, tmp_path)
        assert (kind.answered, kind.faults) == (len(kind.files), {}), kind.name
        program.fuzz(kind, 12, 60.0, tmp_path)
        assert not kind.faults
        assert kind.cases > len(kind.files)


def test_a_fault_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    program = importlib.import_module("fuzz")
    kind = program.Kind("broken", (b"x",), lambda data, folder: data.decode("ascii").index("x"), b"\xff", 1.0)
    program.fuzz(kind, 40, 60.0, tmp_path)
    assert any(name.startswith("UnicodeDecodeError") for name in kind.faults)
