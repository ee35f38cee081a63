"""Two builds run in turn on one machine, always in fresh processes: what decides whether a night really was slower."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError, StoreError
from ..json_text import parse_json
from ..report.columns import column_of
from ..report.folders import Entry, read_runs
from . import screen

Number = tuple[str, str, str]
"""Task, number in words, and the settings_id where the model was measured under several, else ""."""
Readings = Mapping[Number, float]
Item = TypeVar("Item")
Measure = Callable[[str, frozenset[str]], Readings]
"""(adapter, tasks) -> readings of one build, measured once in fresh processes."""


@dataclass(frozen=True)
class Build:
    """A build of arbench and the adapters: the Python that has it, and the run whose suite is measured again.

    `settings_id`: of the row that alone is read, where the suite has several for an adapter. `parameters`: those that
    tell the task that alone is run and read from others of its name. `path`: a folder whose modules go before all that
    are installed.
    """

    python: str
    folder: Path
    settings_id: str = ""
    path: Path | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str] | None:
        """Of its processes; None is ours. No compiled files are kept beside `path`, whose sources change in place, and
        no module of the present folder stands in for one of it."""
        if self.path is None:
            return None
        paths = [str(self.path), *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return {**os.environ, **own}

    def measure(self, adapter: str, tasks: frozenset[str]) -> Readings:
        """Runs these tasks of one adapter anew. Raises `StoreError` where that fails."""
        run = parse_json((self.folder / "run.json").read_bytes())
        if "plan" not in run:
            why = "there is no suite to run again"
            raise InputError(f"{self.folder} is not the folder of a run", why, "arbench ls runs")
        with tempfile.TemporaryDirectory(prefix="arbench-in-turn-") as place:
            suite, out = Path(place) / "suite.yaml", Path(place) / "run"
            suite.write_text(json.dumps(_written(run["suite"], self.parameters)), encoding="utf-8")
            words = [self.python, "-m", "arbench", "run", str(suite), "--out", str(out), "--track", "off"]
            words += [word for task in sorted(tasks) for word in ("--task", task)]
            words += ["--adapter", adapter, "--workers", "1", *_weights(run.get("argv", ()))]
            try:
                done = subprocess.run(words, capture_output=True, text=True, check=False, env=self.environment)
            except OSError as error:
                raise StoreError(
                    f"cannot start {self.python}", error.strerror or str(error), "--good PYTHON"
                ) from error
            if not (out / "run.json").is_file():
                last = (done.stderr or done.stdout).strip().splitlines()[-3:]
                what = f"{adapter} could not be run again"
                raise StoreError(what, " ".join(last), f"{self.python} -m arbench run SUITE")
            (again,) = read_runs([out])
            meant = [each for each in again.entries if _has(each.result.parameters, self.parameters)]
            return _readings(meant, self.settings_id)


def _readings(entries: Sequence[Entry], settings_id: str) -> Readings:
    """Of the row of these settings, if they are given; a build may give them another id, where one row alone is it."""
    several = len({each.result.settings_id for each in entries}) > 1
    chosen = [each for each in entries if not (several and settings_id) or each.result.settings_id == settings_id]
    return {
        (
            each.result.task,
            column_of(each.result, metric).words,
            each.result.settings_id if several and not settings_id else "",
        ): metric.value
        for each in chosen
        for metric in each.result.metrics
        if metric.value is not None
    }


def of_row(found: Mapping[Number, Item], task: str, words: str, settings_id: str) -> Item | None:
    """What is known of a number of a row, which may be the only one of its model."""
    return found.get((task, words, settings_id), found.get((task, words, "")))


def _written(suite: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved suite as a file has it, each task under its name: those that have these parameters, or leave them to
    the data."""
    tasks = [
        {task["task"]: {name: value for name, value in task.items() if name != "task"}}
        for task in suite["tasks"]
        if _has({name: value for name, value in task.items() if value is not None}, parameters, missing=True)
    ]
    return {**suite, "tasks": tasks}


def _has(own: Mapping[str, Any], parameters: Mapping[str, Any], missing: bool = False) -> bool:
    return all(own[name] == value if name in own else missing for name, value in parameters.items())


def _weights(argv: Sequence[Any]) -> list[str]:
    """The files that a run was given."""
    words = [str(word) for word in argv]
    found = [["--weights", words[place + 1]] for place, word in enumerate(words[:-1]) if word == "--weights"]
    return [word for pair in found for word in pair] + [word for word in words if word.startswith("--weights=")]


def in_turn(
    good: Measure, new: Measure, adapter: str, tasks: frozenset[str], tell: Callable[[str], None] = lambda text: None
) -> dict[Number, tuple[list[float], list[float]]]:
    """Readings of both builds, round by round, in the order good new, new good, ...: `screen.ROUNDS` rounds, and up to
    `screen.MORE` while a number is still open."""
    found: dict[Number, tuple[list[float], list[float]]] = {}
    for number in range(screen.MORE):
        tell(f"{adapter}: round {number + 1}")
        sides = (good, new) if number % 2 == 0 else (new, good)
        first, second = (side(adapter, tasks) for side in sides)
        one, two = (first, second) if number % 2 == 0 else (second, first)
        for key in one.keys() & two.keys():
            pair = found.setdefault(key, ([], []))
            pair[0].append(one[key])
            pair[1].append(two[key])
        if number + 1 >= screen.ROUNDS and not _open(found):
            break
    return {key: pair for key, pair in found.items() if len(pair[0]) >= screen.ROUNDS}


def _open(found: Mapping[Number, tuple[list[float], list[float]]]) -> bool:
    """Whether a latency or a peak of memory is not decided yet; other numbers follow them."""
    for (task, words, _), (good, new) in found.items():
        if words.partition(" ")[0] not in ("latency", "peak-memory") or min([*good, *new]) <= 0:
            continue
        if str(screen.confirmed(good, new).decision(screen.EFFECT[task])) == "open":
            return True
    return False
