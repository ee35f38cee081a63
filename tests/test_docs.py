"""Runs the examples in docs/: files are written and commands run, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from tests import forked

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if "```sh" in path.read_text(encoding="utf-8"))
FENCE = re.compile(r"^```(?P<info>[^\n]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_examples_of_a_page_run(page, tmp_path):
    environment = {**os.environ, "ARBENCH_WEIGHTS": str(tmp_path / "none")}
    run = 0
    for block in FENCE.finditer(page.read_text(encoding="utf-8")):
        name = re.search(r"file=(\S+)", block["info"])
        if name:
            (tmp_path / name[1]).write_text(block["body"], encoding="utf-8")
        if block["info"].split()[0] != "sh":
            continue
        for line in block["body"].splitlines():
            words = shlex.split(line, comments=True)
            if words[0] == "arbench":
                done = forked.arbench(*words[1:], cwd=tmp_path, env=environment)
            else:
                assert words[0] == "python"
                done = forked.script(*words[1:], cwd=tmp_path, env=environment)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            run += 1
    assert run


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
