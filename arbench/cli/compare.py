"""`arbench compare`: two folders of runs or scores, number by number."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from arbench.compare import words
from arbench.compare.comparison import Model, RunComparison, Turns, compare_folders
from arbench.compare.in_turn import Build, Measure, Number, in_turn
from arbench.compare.matching import Pair
from arbench.compare.page import write_page
from arbench.errors import FAILED, INFRASTRUCTURE, OK, UsageError
from arbench.terminal import Column, PlainConsole, print_table


def compare(
    old: Path,
    new: Path,
    names: str | None,
    tolerance: Sequence[str],
    fail_on: Sequence[str],
    output: Path | None,
    json_output: bool,
    pythons: tuple[str, str] | None = None,
) -> int:
    """1 where a number that `fail_on` names has got worse, 3 where none of them could be compared.

    `pythons`: of the old and the new build, whose timings are then measured again, in turn.
    """
    images = not json_output or output is not None
    turns = _turns((old, new), pythons) if pythons is not None else None
    found = compare_folders(old, new, _names(names), tolerance, images, turns)
    if json_output:
        sys.stdout.write(json.dumps(found.plain(), indent=2) + "\n")
    else:
        console = PlainConsole()
        show(found, console)
    if output is not None or not json_output:
        path = write_page(found, output or new / "compare.html")
        PlainConsole(stderr=json_output).print(f"page: {path}", soft_wrap=True)
    return _code(found, fail_on)


def _turns(folders: tuple[Path, Path], pythons: tuple[str, str]) -> Turns:
    console = PlainConsole(stderr=True)

    def measured(pair: Pair) -> dict[Number, tuple[list[float], list[float]]]:
        alone = ("energy", "memory", "speed")
        measured_alone = frozenset(each.result.task for each in pair.new if each.result.task in alone)
        if not measured_alone:
            return {}
        sides: list[Measure] = []
        for folder, python, entries in zip(folders, pythons, (pair.old, pair.new), strict=True):
            build = Build(python, folder, entries[0].result.settings_id)
            adapter = entries[0].result.adapter
            sides.append(lambda _, tasks, build=build, adapter=adapter: build.measure(adapter, tasks))  # type: ignore[misc]
        return in_turn(sides[0], sides[1], pair.name, measured_alone, lambda text: console.print(text, soft_wrap=True))

    return measured


def _names(given: str | None) -> tuple[str, str] | None:
    if given is None:
        return None
    parts = [name.strip() for name in given.split(",")]
    if len(parts) != 2 or not all(parts) or parts[0] == parts[1]:
        raise UsageError(f"{given!r} is not two names", "", "--names old,new")
    return parts[0], parts[1]


def _code(found: RunComparison, fail_on: Sequence[str]) -> int:
    console = PlainConsole(stderr=True)
    if not fail_on:
        return OK
    worse = found.worse(fail_on)
    for each in worse:
        console.print(f"worse: {each.column.words} of {each.model}: {words.line(each).change}", soft_wrap=True)
    if worse:
        return FAILED
    if not found.compared(fail_on):
        console.print(f"nothing was compared of {', '.join(fail_on)}", soft_wrap=True)
        return INFRASTRUCTURE
    return OK


def show(found: RunComparison, console: Console) -> None:
    for model in found.models:
        _show(model, found.names, console)
    for text in found.alone:
        console.print(Text(text), soft_wrap=True)
    differences = [each for model in found.models for each in words.shown(model.differences)]
    if any(each.column.measure == "speed" and not each.turns for each in differences):
        console.print(Text(f"note: {words.SESSIONS}"), soft_wrap=True)
    if any(each.column.measure == "quality" and each.change and each.change.width for each in differences):
        console.print(Text(f"note: {words.COVERS}"), soft_wrap=True)


def _show(model: Model, names: tuple[str, str], console: Console) -> None:
    console.print(Text(model.name, style="bold"), soft_wrap=True)
    for setting in model.settings:
        console.print(Text(f"  differs: {setting.words}"), soft_wrap=True)
    for text in model.failed:
        console.print(Text(f"  {text}"), soft_wrap=True)
    lines = [words.line(each) for each in words.shown(model.differences)]
    columns = [
        Column("number"),
        *(Column(name, right=True, whole=True) for name in names),
        Column("change [95 %]", right=True, whole=True),
        Column("paired", whole=True),
        Column("verdict", keep=True),
    ]
    rows = [
        [each.head, each.old, each.new, each.change, each.pairing, f"{each.sign} {each.verdict}".strip()]
        for each in lines
    ]
    print_table(console, columns, rows, rule=True)
    for text in (*dict.fromkeys(_beside(model)), *words.missing(model.differences)):
        console.print(Text(text), soft_wrap=True)
    for samples in model.samples:
        console.print(Text(words.about(samples)), soft_wrap=True)


def _beside(model: Model) -> list[str]:
    """What is said about numbers beside their verdict."""
    shown = words.shown(model.differences)
    told = [f"{each.column.words}: {each.why}" for each in shown if each.why and each.verdict == "not comparable"]
    return told + [f"work of a call: {each.beside}" for each in shown if each.beside]
