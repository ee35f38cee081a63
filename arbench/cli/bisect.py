"""`arbench bisect`: which commit of a repository made a number worse."""

from __future__ import annotations

import shlex
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from arbench.compare import bisection
from arbench.compare.bisection import Bisection, Goal
from arbench.compare.difference import EXACT
from arbench.compare.in_turn import Build
from arbench.errors import INFRASTRUCTURE, OK, PARTIAL, StoreError, UnknownName, UsageError, counted
from arbench.report.folders import read_runs
from arbench.report.series import Reading, night, settings_told
from arbench.terminal import PlainConsole

SOURCE = "from importlib.util import find_spec; from arbench import registry;"
SOURCE += "import sys; print(find_spec(registry.card(sys.argv[1]).implementation.partition(':')[0]).origin)"


def bisect(
    folder: Path,
    repository: Path,
    good: str,
    bad: str,
    metric: str,
    adapter: str | None,
    sources: str | None,
    output: Path,
    json_output: bool,
) -> int:
    """3 where the good and the bad commit cannot be told apart, 4 where skipped commits leave several."""
    one, setting = _number(folder, metric, adapter)
    top = Path(bisection.git(repository, "rev-parse", "--show-toplevel").strip())
    goal = Goal(
        repository=str(top),
        good=bisection.commit_of(top, good),
        bad=bisection.commit_of(top, bad),
        adapter=one.entry.result.adapter,
        setting=setting,
        number=one.words,
        exact=one.metric.measure == "quality" or one.metric.name in EXACT,
    )
    console = PlainConsole(stderr=True)
    found = bisection.begin(output, goal)
    if not found.done:
        known = len(found.steps)
        told = f"{goal.number} of {_title(goal.adapter, goal.setting)}, {counted(known, 'commit')} known"
        console.print(f"{told}, state in {output}", soft_wrap=True)
        measure = _measure(one, folder, sources, _distinction(one, folder))
        found = bisection.bisect(found, output, measure, lambda text: console.print(text, soft_wrap=True))
    if json_output:
        sys.stdout.write(found.model_dump_json(indent=2) + "\n")
    else:
        _print(found, top)
    return INFRASTRUCTURE if not found.told_apart else OK if len(found.first) == 1 else PARTIAL


def _number(folder: Path, metric: str, adapter: str | None) -> tuple[Reading, str]:
    """The first number of the run that has this name, or is written so, of the only adapter or the one asked for, and
    the words that tell its settings from the adapter's others. Raises `UsageError` where several have it."""
    (run,) = read_runs([folder])
    known = [each for each in night(run).readings.values() if each.metric.value is not None]
    told = settings_told(known)
    own = [each for each in known if adapter is None or _meant(each, told[each.key], adapter)]
    if not own and known:
        names = sorted({each.entry.result.adapter for each in known})
        raise UnknownName(f"adapter of {folder}", str(adapter), names, f"--adapter {names[0]}")
    found = [each for each in own if metric in (each.metric.name, each.words)]
    if not found:
        words = list(dict.fromkeys(each.words for each in own))
        raise UnknownName(f"number of {folder}", metric, words, f"arbench report {folder}")
    names = sorted({each.entry.result.adapter for each in found})
    if len(names) > 1:
        raise UsageError(f"{folder} has {metric} of {len(names)} adapters", ", ".join(names), f"--adapter {names[0]}")
    alike = [each for each in found if each.words == found[0].words]
    if len(alike) > 1:
        what = f"{folder} has {found[0].words} of {names[0]} {len(alike)} times"
        titles = [_title(names[0], told[each.key]) for each in alike]
        if len(set(titles)) == 1:
            raise UsageError(what, titles[0], "run the suite with one of these alone: arbench run SUITE")
        raise UsageError(what, ", ".join(titles), f"--adapter {shlex.quote(titles[0])}")
    return found[0], told[found[0].key]


def _title(adapter: str, setting: str) -> str:
    return f"{adapter} ({setting})" if setting else adapter


def _meant(each: Reading, setting: str, asked: str) -> bool:
    """Whether it is of the adapter asked for, by a glob, or by name and settings as an error tells them, or the first
    of these settings."""
    name = each.entry.result.adapter
    title = _title(name, setting)
    return fnmatchcase(name, asked) or title == asked or (asked[-1:] == ")" and title.startswith(f"{asked[:-1]}, "))


def _distinction(one: Reading, folder: Path) -> dict[str, Any]:
    """The parameters that tell its task from others of this name under the same settings."""
    (run,) = read_runs([folder])
    own = one.entry.result
    others = [
        each.result.parameters
        for each in run.entries
        if (each.result.adapter, each.result.task, each.result.settings_id) == (own.adapter, own.task, own.settings_id)
    ]
    return {name: value for name, value in own.parameters.items() if any(each.get(name) != value for each in others)}


def _measure(one: Reading, folder: Path, sources: str | None, parameters: dict[str, Any]) -> bisection.Measure:
    result, seen = one.entry.result, set[Path]()

    def measure(tree: Path) -> float:
        path = tree / sources if sources else tree / "src" if (tree / "src").is_dir() else tree
        build = Build(sys.executable, folder, result.settings_id, path, parameters)
        if tree not in seen:
            _check_source(build, result.adapter, tree)
            seen.add(tree)
        readings = build.measure(result.adapter, frozenset({result.task}))
        name = result.task, one.words, ""
        if name not in readings:
            raise StoreError(f"{result.adapter} gave no {one.words}", "its cell failed or has another protocol")
        return readings[name]

    return measure


def _check_source(build: Build, adapter: str, tree: Path) -> None:
    """Raises `UsageError` if the adapter's code is not that of the worktree: every commit would measure the same."""
    words = [build.python, "-c", SOURCE, adapter]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=build.environment)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise StoreError(f"{adapter} cannot be found", " ".join(last), f"arbench check {adapter}")
    origin = Path(done.stdout.strip())
    if not origin.resolve().is_relative_to(tree.resolve()):
        raise UsageError(
            f"the code of {adapter} is not in the repository",
            f"it is read from {origin}",
            "--sources FOLDER, where in the repository its package lies",
        )


def _print(found: Bisection, repository: Path) -> None:
    console, goal = PlainConsole(), found.goal
    if not found.told_apart:
        assert found.whole is not None
        told = bisection.words(goal, found.whole)
        console.print(f"the two commits are not told apart by {goal.number}: {told}", soft_wrap=True)
        return
    head = "the first bad commit" if len(found.first) == 1 else "one of these is the first bad commit"
    console.print(f"{head}:", soft_wrap=True)
    for commit in found.first:
        line = bisection.git(repository, "log", "-1", "--format=%h %an %as %s", commit).strip()
        console.print(f"  {line}", soft_wrap=True)
