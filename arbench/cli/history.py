"""`arbench history`: numbers of many nights as series, and when they changed."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence, Set
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from arbench.cli.places import results
from arbench.errors import INFRASTRUCTURE, OK, UnknownName, counted
from arbench.report import history as series
from arbench.report.history import Series, series_of
from arbench.report.series import nights, runs_in
from arbench.terminal import Column, PlainConsole, print_table

if TYPE_CHECKING:
    from rich.status import Status


def history(places: Sequence[str], metrics: Sequence[str], adapters: Sequence[str], json_output: bool) -> int:
    """Of folders of runs, and of MLflow's stores; 3 where no number is there on two nights."""
    with tempfile.TemporaryDirectory() as beside:
        folders = list(_folders(places, Path(beside)))
        return _history(folders, metrics, adapters, json_output)


def _folders(places: Sequence[str], beside: Path) -> Iterator[Path]:
    """The folders among `places`, and those of the runs that stores keep, written into `beside`."""
    from arbench.track.fetch import fetch, is_store

    for number, place in enumerate(places):
        if not is_store(place):
            yield results(place)
            continue
        with PlainConsole(stderr=True).status(f"reading runs from {place}") as status:

            def tell(done: int, count: int, status: Status = status, place: str = place) -> None:
                status.update(f"{done} of {counted(count, 'run')} from {place}")

            yield from fetch(place, beside / str(number), tell)


def _history(folders: Sequence[Path], metrics: Sequence[str], adapters: Sequence[str], json_output: bool) -> int:
    every = series_of(nights(runs_in(folders)))
    _refuse_unknown("number", metrics, {_name(each) for each in every})
    _refuse_unknown("adapter", adapters, {each.model for each in every})
    found = [
        each
        for each in every
        if (not metrics or any(fnmatchcase(_name(each), glob) for glob in metrics))
        and (not adapters or any(fnmatchcase(each.model, glob) for glob in adapters))
    ]
    if json_output:
        sys.stdout.write(json.dumps([_plain(each) for each in found], indent=2) + "\n")
        return OK if found else INFRASTRUCTURE
    console = PlainConsole()
    shown = [each for each in found if each.shown or metrics]
    if not shown:
        console.print("no number is there on two nights under the same settings", soft_wrap=True)
        return INFRASTRUCTURE
    heads = ("model", "number", "nights", "first", "last", "", "steps")
    columns = [Column(head, right=head in ("nights", "first", "last")) for head in heads]
    rows = []
    for each in shown:
        known = [value for _, value in each.known]
        ends = [series.value_text(each, known[place]) for place in (0, -1)]
        told = "; ".join(each.told(step) for step in each.steps)
        rows.append([each.title, each.words, str(len(known)), *ends, series.bars(each.values), told])
    print_table(console, columns, rows, rule=True)
    if not series.can_find_steps():
        console.print(series.MISSING, soft_wrap=True)
    return OK


def _name(each: Series) -> str:
    return each.words.partition(" ")[0]


def _refuse_unknown(kind: str, globs: Sequence[str], known: Set[str]) -> None:
    """Raises `UnknownName` for a glob that picks nothing of what is there on two nights, if anything is."""
    for glob in globs:
        if known and not any(fnmatchcase(name, glob) for name in known):
            raise UnknownName(f"{kind} of these nights", glob, known, "arbench history DIR")


def _plain(each: Series) -> dict[str, object]:
    return {
        "adapter": each.model,
        "setting": each.setting,
        "settings_id": each.settings_id,
        "number": each.words,
        "unit": each.unit,
        "nights": [
            {"run_id": night.run_id, "started": night.started, "git": night.git, "value": value}
            for night, value in zip(each.nights, each.values, strict=True)
        ],
        "steps": [
            {"first_night": each.known[step.at][0].run_id, "ratio": step.ratio, "told": each.told(step)}
            for step in each.steps
        ],
    }
