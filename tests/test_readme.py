"""Runs the README: its files are written, its commands are run, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(?P<info>[^\n]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[tuple[str, str]]:
    return [(match["info"], match["body"]) for match in FENCE.finditer(README) if match["info"].split()[0] == kind]


def commands() -> list[list[str]]:
    lines = [line for _, body in blocks("sh") for line in body.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def make_dry_run(target: str) -> str:
    return subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_two_commands_exist_and_do_what_they_say():
    assert "arbench run quickstart" in make_dry_run("quickstart")
    assert "pytest" in make_dry_run("test")


def test_the_own_model_is_under_40_lines():
    lines = [line for info, body in blocks("python") for line in body.splitlines() if line.strip()]
    assert len(lines) < 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    (folder / "tests").symlink_to(ROOT / "tests")
    for info, body in blocks("python"):
        path = folder / re.search(r"file=(\S+)", info)[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
    return folder


def test_every_command_of_the_readme_runs(folder):
    installed = folder / "installed"
    environment = {**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "160"}
    outputs = {}
    for words in commands():
        if words[0] == "make":  # checked above: this test is itself run by make
            continue
        if words[0] == "pip":
            # into a folder of this test's own, with the tools at hand
            words = [
                sys.executable,
                "-m",
                *words,
                "--no-deps",
                "--no-build-isolation",
                "--quiet",
                "--target",
                str(installed),
            ]
            result = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        else:
            assert words[0] == "arbench"
            result = forked.arbench(*words[1:], cwd=folder, env=environment)
        assert result.returncode == 0, f"{shlex.join(words)}\n{result.stdout}\n{result.stderr}"
        outputs[shlex.join(words)] = result.stdout
    last_listing = [text for command, text in outputs.items() if command == "arbench ls adapters"][-1]
    assert "mine/histogram" in last_listing
    assert (folder / "small.html").stat().st_size > 10_000


def test_the_own_model_went_through_every_generator_task(folder):
    import pandas

    tables = [pandas.read_parquet(path) for path in folder.glob("runs/*/results.parquet")]
    rows = pandas.concat(tables)
    mine = rows[rows.adapter == "mine/histogram"]
    assert set(mine.task) == {"generate", "speed", "memory"}
    assert (mine.outcome == "ok").all()


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
