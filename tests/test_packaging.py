"""What is shipped: every file of the four folders is code or data that pyproject.toml names."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_file_of_the_packages_is_shipped() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    for folder in ("arbench", "adapters", "suites", "reports"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_dir() or path.suffix == ".py" or path.parent.name == "__pycache__":
                continue
            assert any(fnmatch(path.name, pattern) for pattern in patterns), path
            parts = path.relative_to(ROOT).parent.parts
            assert all(part.isidentifier() for part in parts), f"setup.py does not find {path.parent}"
