"""Whether results may stand on a leaderboard: nothing damaged or unnamed, and quality and speed of one setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..spec.card import Card
from ..spec.result import OWN, Result
from .columns import SCORE
from .folders import Entry, RunFolder, changed, read_run
from .rows import rows

ENOUGH = 1000
"""Samples below which a number of sets of images is remarked on."""


@dataclass(frozen=True)
class Finding:
    """What is wrong ("error"), or what readers should know ("note"), with what to do about it."""

    kind: Literal["error", "note"]
    where: str
    what: str
    hint: str = ""


def findings(folder: Path, cards: Mapping[str, Card]) -> list[Finding]:
    """All that is found in a folder of a run or of scores. Raises `InputError` where it cannot be read at all."""
    run = read_run(folder.resolve())
    found = list(_journal(run))
    if not any(entry.result.outcome == "ok" for entry in run.entries):
        found.append(Finding("error", str(folder), "there is no result that went well", f"arbench status {folder}"))
    for entry in run.entries:
        found += _result(entry.result, cards)
    for cell in run.missing:
        what = f"{cell.task} {cell.adapter} was planned and not run"
        found.append(Finding("note", cell.result_id, what, f"arbench resume {folder}"))
    found += _rows(run.entries)
    return sorted(dict.fromkeys(found), key=lambda each: each.kind)


def _journal(run: RunFolder) -> Iterator[Finding]:
    """A result must be the file that the journal saw written."""
    if run.digests is None:
        what = "without a journal no file can be checked"
        yield Finding("error", str(run.path / "journal.jsonl"), what, "send the whole folder")
        return
    for entry in run.entries:
        if entry.result.result_id not in run.digests:
            yield Finding("error", entry.result.result_id, "the journal does not know this result")
    for entry in changed(run):
        name = entry.result.result_id
        yield Finding("error", name, "result.json was changed after it was written", "run it again")


def _result(result: Result, cards: Mapping[str, Card]) -> Iterator[Finding]:
    where = f"{result.task} {result.adapter}"
    if result.outcome != "ok":
        yield Finding("note", where, f"{result.outcome}: {result.reason}")
        return
    known = result.provenance
    if known is None:
        yield Finding("error", where, "there is no provenance: software, machine and weights are unknown")
        return
    if result.kind != "images":
        yield from _model(result, where, cards)
    if known.git.endswith("-dirty"):
        yield Finding("note", where, f"made from changed files of {known.git[:12]}", "commit, and run it again")
    for metric in result.metrics:
        if metric.value is None:
            continue
        name = f"{where}: {metric.name}"
        if metric.reference is not None and not metric.reference.digest:
            yield Finding("error", name, f"the reference {metric.reference.name} has no digest")
        if metric.convention != OWN and not metric.how:
            yield Finding("error", name, f"nothing says how {metric.convention} computed it")
    counted = result.samples.n if result.samples is not None else None
    if counted is not None and counted < ENOUGH:
        yield Finding("note", where, f"{counted} samples: distances of sets want {ENOUGH:,} and more")
    if counted and result.samples is not None and not result.samples.digest:
        yield Finding("error", where, "its samples have no digest")


def _model(result: Result, where: str, cards: Mapping[str, Card]) -> Iterator[Finding]:
    assert result.provenance is not None  # asked of those that have one
    if result.load.get("init") == "random":
        yield Finding("error", where, "the weights are random")
    elif _has_weights(cards.get(result.adapter)) and result.adapter not in result.provenance.weights:
        yield Finding("error", where, "the digest of its weights is not recorded")
    if result.adapter not in cards:
        what = "there is no card of this name here: its size and licences are not shown"
        yield Finding("note", result.adapter, what)


def _has_weights(card: Card | None) -> bool:
    return card is not None and card.checkpoint is not None


def _rows(entries: tuple[Entry, ...]) -> Iterator[Finding]:
    """Speed without quality under the same settings, and quality without speed, are half a row."""
    for (adapter, settings_id, _), members in rows(entry.result for entry in entries).items():
        good = [each for each in members if each.outcome == "ok" and each.kind != "images"]
        timed = [each for each in good if each.task in ("energy", "memory", "speed")]
        judged = [each for each in good if each.task not in ("energy", "memory", "speed", SCORE)]
        if timed and not judged:
            yield Finding("error", f"{adapter} {settings_id}", "it has speed and no quality under the same settings")
        elif judged and not timed:
            yield Finding("note", f"{adapter} {settings_id}", "it has quality and no speed under the same settings")
