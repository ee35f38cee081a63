"""`arbench bisect`: the commit that made a number worse, from a small repository whose code says how long it takes."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest

from arbench.cli import bisect
from arbench.cli.main import main
from arbench.compare import bisection, in_turn
from arbench.compare.bisection import Bisection, Goal
from arbench.errors import StoreError, UsageError

SECONDS = ["0.1", "0.1", "broken", "0.1", "0.11", "0.11", "0.11"]


def git(place, *words):
    names = {f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", "-C", str(place), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **names}).stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Commits 0 to 6 with a file each that says what is measured."""
    place = tmp_path_factory.mktemp("repository")
    git(place, "init", "-q")
    for number, seconds in enumerate(SECONDS):
        (place / "seconds.txt").write_text(seconds)
        (place / "other.txt").write_text(str(number))
        git(place, "add", ".")
        git(place, "commit", "-q", "-m", f"commit {number}")
    return place


def goal(repository, exact=False, bad="HEAD"):
    good, bad = (bisection.commit_of(repository, name) for name in ("HEAD~6", bad))
    return Goal(repository=str(repository), good=good, bad=bad, adapter="farm/steady", number="latency", exact=exact)


def reader(noise=0.002):
    draw, asked = np.random.default_rng(0), []

    def measure(tree):
        text = (tree / "seconds.txt").read_text()
        asked.append((tree.name, text))
        if text == "broken":
            raise StoreError("it cannot be run", "SyntaxError")
        return float(text) * float(np.exp(noise * draw.normal()))

    return measure, asked


def test_the_commit_is_found_in_turn_and_a_broken_one_is_passed_over(repository, tmp_path):
    measure, asked = reader()
    told: list[str] = []
    found = bisection.bisect(Bisection(goal=goal(repository)), tmp_path / "out", measure, told.append)
    assert found.first == (bisection.commit_of(repository, "HEAD~2"),)
    assert found.whole.value == pytest.approx(1.1, abs=0.01)
    assert {step.subject[-1]: step.verdict for step in found.steps}.items() >= {"3": "good", "4": "bad"}.items()
    assert [name for name, _ in asked[:4]] == ["good", "tested", "tested", "good"]
    assert told[0].startswith("the whole change: +")
    assert bisection.begin(tmp_path / "out", goal(repository)) == found
    assert git(repository, "worktree", "list").count("\n") == 1  # ours are gone
    assert not git(repository, "for-each-ref", "refs/bisect")
    with pytest.raises(UsageError, match="of another search"):
        bisection.begin(tmp_path / "out", goal(repository, bad="HEAD~1"))


def test_what_is_known_is_not_measured_again(repository, tmp_path):
    measure, asked = reader()
    left = [8]

    def stops(tree):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return measure(tree)

    with pytest.raises(KeyboardInterrupt):
        bisection.bisect(Bisection(goal=goal(repository)), tmp_path / "out", stops)
    known = bisection.begin(tmp_path / "out", goal(repository))
    assert known.whole is not None
    asked.clear()
    found = bisection.bisect(known, tmp_path / "out", measure)
    assert found.first == (bisection.commit_of(repository, "HEAD~2"),)
    assert ("tested", "0.11") not in asked[:2]  # the bad commit is known


def test_an_exact_number_takes_one_reading_and_skipped_commits_leave_several(repository, tmp_path):
    measure, asked = reader(noise=0.0)
    found = bisection.bisect(Bisection(goal=goal(repository, exact=True)), tmp_path / "exact", measure)
    assert len(asked) == 2 * (len(found.steps) + 1) - [step.verdict for step in found.steps].count("skipped")
    assert found.first == (bisection.commit_of(repository, "HEAD~2"),)

    def broken(tree):
        if (tree / "other.txt").read_text() in "1235":
            raise StoreError("it cannot be run", "SyntaxError")
        return measure(tree)

    found = bisection.bisect(Bisection(goal=goal(repository, exact=True)), tmp_path / "skipped", broken)
    assert set(found.first) == {bisection.commit_of(repository, f"HEAD~{back}") for back in (2, 3, 4, 5)}


def test_commits_that_are_alike_and_revisions_that_are_none(repository, tmp_path):
    same = goal(repository, bad="HEAD~3")
    found = bisection.bisect(Bisection(goal=same), tmp_path / "out", reader()[0])
    assert (found.told_apart, found.first, found.whole.rounds) == (False, (), 15)
    with pytest.raises(UsageError, match="'v9' is not a commit"):
        bisection.commit_of(repository, "v9")


def test_of_several_settings_one_is_asked_for(repository, swept, tmp_path, monkeypatch, capsys):
    asked = []

    def measured(build, adapter, tasks):
        asked.append((build.settings_id, adapter, sorted(tasks)))
        return {("speed", "latency (batch 1, sample)", ""): float((build.path / "seconds.txt").read_text())}

    monkeypatch.setattr(in_turn.Build, "measure", measured)
    monkeypatch.setattr(bisect, "_check_source", lambda *given: None)
    night = swept("night")
    words = ["bisect", str(night), "--repository", str(repository), "--good", "HEAD~3", "--metric", "latency"]
    words += ["-o", str(tmp_path / "found")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "2 times" in said
    assert not asked
    titles = said.split("why: ")[1].splitlines()[0].split(", ")
    settings = {json.loads(path.read_text())["settings_id"] for path in night.glob("cells/*/result.json")}
    found = []
    for number, title in enumerate(titles):
        asked.clear()
        assert main([*words[:-1], str(tmp_path / f"found-{number}"), "--adapter", title.strip()]) == 0
        assert title.strip() in capsys.readouterr().err
        assert len({each for each, _, _ in asked}) == 1
        found.append(asked[0][0])
    assert set(found) == settings
    assert main([*words[:-1], str(tmp_path / "found-0"), "--adapter", titles[1].strip()]) == 2
    assert "differs: setting" in capsys.readouterr().err


def test_of_two_references_the_one_asked_for_is_measured(repository, runs, tmp_path, monkeypatch, capsys):
    """Both have the number under one name and the same settings; only their tasks differ, in the reference."""
    asked = []

    def measured(build, adapter, tasks):
        asked.append(build.parameters)
        return {("generate", "frechet (offline)", ""): float((build.path / "seconds.txt").read_text())}

    monkeypatch.setattr(in_turn.Build, "measure", measured)
    monkeypatch.setattr(bisect, "_check_source", lambda *given: None)
    night = runs("night")
    for path in night.glob("cells/res-generate/result.json"):
        document = json.loads(path.read_text())
        document["parameters"]["reference"] = "mnist5k/heldout"
        path.write_text(json.dumps(document))
        document |= {"result_id": "res-other", "parameters": {**document["parameters"], "reference": "mnist5k/train"}}
        for metric in document["metrics"]:
            if metric["reference"]:
                metric["reference"] |= {"name": "mnist5k/train", "digest": "ef" * 16}
        (night / "cells" / "res-other").mkdir()
        (night / "cells" / "res-other" / "result.json").write_text(json.dumps(document))
    words = ["bisect", str(night), "--repository", str(repository), "--good", "HEAD~3", "--metric", "frechet"]
    assert main([*words, "-o", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert "2 times" in said
    assert "next: --adapter 'next_scale/toy (reference mnist5k/" in said
    title = "next_scale/toy (reference mnist5k/train)"
    assert main([*words, "-o", str(tmp_path / "found"), "--adapter", title]) == 0
    assert asked
    assert all(each == {"reference": "mnist5k/train"} for each in asked)
    assert main([*words, "-o", str(tmp_path / "none"), "--adapter", "next_scale/other"]) == 2
    assert "unknown adapter of" in capsys.readouterr().err


def test_a_build_reads_the_task_of_these_parameters_alone(runs, tmp_path):
    folder = runs("r")
    for cell, reference, value in (("generate", "a", 1.0), ("other", "b", 2.0)):
        place = folder / "cells" / f"res-{cell}" / "result.json"
        document = json.loads((folder / "cells" / "res-generate" / "result.json").read_text())
        document |= {"result_id": f"res-{cell}", "parameters": {"n": 120, "reference": reference}}
        document["metrics"][0]["value"] = value
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(document))
    tasks = [{"task": "generate", "reference": name, "n": None} for name in "ab"]
    document = json.loads((folder / "run.json").read_text()) | {"plan": {"cells": []}}
    (folder / "run.json").write_text(json.dumps(document | {"suite": {"suite": "toy", "tasks": tasks}}))
    python = tmp_path / "python"  # in place of a run: its suite, and its folder as it would be
    python.write_text(
        f'#!/bin/sh\ncp "$4" {tmp_path}/suite\nwhile [ "$1" != --out ]; do shift; done\ncp -r {folder} "$2"\n'
    )
    python.chmod(0o755)
    for reference, value in (("a", 1.0), ("b", 2.0)):
        build = in_turn.Build(str(python), folder, "set-1.0", parameters={"reference": reference})
        found = build.measure("next_scale/toy", frozenset({"generate"}))
        assert found["generate", "frechet (offline)", ""] == value
        assert json.loads((tmp_path / "suite").read_text())["tasks"] == [
            {"generate": {"reference": reference, "n": None}}
        ]
