"""The page about odd files says what the tools and arbench do now, and no difference goes without a flag."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_tools_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    odd = importlib.import_module("odd_files")
    made = odd.rows()
    page = (ROOT / "docs" / "odd-files.md").read_text(encoding="utf-8")
    for row in made:
        assert "| " + " | ".join(row) + " |" in page, "run: python benchmarks/odd_files.py --write docs/odd-files.md"
    for kind, *cells in made:
        for told in cells[1::2]:
            differs = "apart" in told or "not read here" in told or "more read here" in told
            assert ("`" in told) == differs or "files_passed_over" in told, (kind, told)
