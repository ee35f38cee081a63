"""Whether results may stand on a leaderboard: nothing damaged or unnamed, and quality and speed of one setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..spec.card import Card
from ..spec.result import OWN, Result
from ..spec.task import distinctions
from .columns import SCORE
from .folders import Entry, RunFolder, changed, how_to_write_again, read_run
from .rows import differing_settings, rows

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
    titles = _titles([entry.result for entry in run.entries])
    found = list(_journal(run, titles))
    if not any(entry.result.outcome == "ok" for entry in run.entries):
        found.append(Finding("error", str(folder), "there is no result that went well", f"arbench status {folder}"))
    for entry in run.entries:
        found += _result(entry.result, titles[entry.result.result_id], cards)
    for cell in run.missing:
        where = _title(f"{cell.task} {cell.adapter}", cell.setting)
        found.append(Finding("note", where, "planned and not run", f"arbench resume {folder}"))
    found += _rows(run.entries)
    return sorted(dict.fromkeys(found), key=lambda each: each.kind)


def _titles(results: Sequence[Result]) -> dict[str, str]:
    """Result id -> task, adapter and, where there are several of both, what tells this one from the others."""
    settings = differing_settings(results)
    given = distinctions([(each.adapter, each.task, each.parameters) for each in results])
    return {
        each.result_id: _title(f"{each.task} {each.adapter}", settings[each.adapter, each.settings_id], parameters)
        for each, parameters in zip(results, given, strict=True)
    }


def _title(name: str, *told: str) -> str:
    inner = ", ".join(part for part in told if part)
    return f"{name} ({inner})" if inner else name


def _journal(run: RunFolder, titles: Mapping[str, str]) -> Iterator[Finding]:
    """A result must be the file that the journal saw written."""
    if run.digests is None:
        what = "without a journal no file can be checked"
        yield Finding("error", str(run.path / "journal.jsonl"), what, "send the whole folder")
        return
    for entry in run.entries:
        if entry.result.result_id not in run.digests:
            what = "the journal does not know this result"
            yield Finding("error", titles[entry.result.result_id], what, f"it lies in {entry.folder}")
    for entry in changed(run):
        what = "result.json was changed after it was written"
        yield Finding("error", titles[entry.result.result_id], what, how_to_write_again(run))


def _result(result: Result, where: str, cards: Mapping[str, Card]) -> Iterator[Finding]:
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
    results = [entry.result for entry in entries]
    settings = differing_settings(results)
    for (adapter, settings_id, _), members in rows(results).items():
        title = _title(adapter, settings[adapter, settings_id])
        good = [each for each in members if each.outcome == "ok" and each.kind != "images"]
        timed = [each for each in good if each.task in ("energy", "memory", "speed")]
        judged = [each for each in good if each.task not in ("energy", "memory", "speed", SCORE)]
        if timed and not judged:
            yield Finding("error", title, "it has speed and no quality under the same settings")
        elif judged and not timed:
            yield Finding("note", title, "it has quality and no speed under the same settings")
